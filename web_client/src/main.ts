document.title = "Handover";
