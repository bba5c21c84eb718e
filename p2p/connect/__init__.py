"""Getting to the other side: the rendezvous at a signaling server, transports, addresses, https."""
