/** Files under way: it follows the progress in place. */
import {
  button,
  bytes,
  choices,
  h,
  percentOf,
  title,
  usualCauses,
  type Context,
  type Screen,
} from "../elements";
import { linkAgain } from "./link";
import type { Model } from "../model";

const PHASES = ["accepted", "verifying", "signing"] as const;

export function running(model: Model, { t: all, actions }: Context): Screen {
  const sends = model.role === "sender";
  const t = { ...all, running: sends ? all.runningSender : all.running };
  const bar = h("progress", { "aria-label": t.running.title, max: "1" });
  const percent = h("p", { class: "percent", "aria-hidden": "true" });
  const numbers = h("p", { class: "numbers" });
  const remarks = h("p", { class: "small" });
  const phases = PHASES.map((phase) => h("li", {}, (sends ? t.phasesSender : t.phases)[phase]));
  const note = h("p", { class: "note", role: "alert", hidden: true });
  const update = ({ progress, state, trouble }: Model) => {
    if (progress) {
      const { durable, verified, total, rate, path, bottleneck } = progress;
      const done = total ? durable / total : 1;
      if (state === "verifying") bar.value = total ? verified / total : 1;
      else bar.value = done;
      percent.textContent = `${percentOf(progress)} %`;
      const parts = [t.of(bytes(durable, t), bytes(total, t))];
      if (rate > 0 && durable < total && state === "accepted" && !trouble) {
        parts.push(t.rate(bytes(rate, t)), t.left((total - durable) / rate));
      }
      numbers.textContent = parts.join(" · ");
      const way = trouble === "lost" ? "" : t.running[path === "relayed" ? path : "direct"];
      const flows = state === "accepted" && !trouble;
      const pace = flows && bottleneck ? t.running.bottleneck[bottleneck] : "";
      remarks.textContent = [t.running.stay, way, pace].filter(Boolean).join(" ");
    }
    const at = (PHASES as readonly string[]).indexOf(state);
    phases.forEach((item, index) => {
      item.className = at < 0 || index > at ? "" : index < at ? "past" : "now";
    });
    const words = trouble ? t.running[trouble] : "";
    note.hidden = !words;
    if (note.textContent !== words) note.textContent = words;
  };
  const stop = model.stopping
    ? [
        h("p", { role: "alert" }, t.running.stopSure),
        choices(
          button(t.running.stopNo, () => actions.stopping(false)),
          button(t.running.stopYes, () => actions.command({ command: "stop" }), "quiet"),
        ),
      ]
    : [button(t.running.stop, () => actions.stopping(true), "quiet")];
  const children = [
    title(t.running.title),
    percent,
    bar,
    numbers,
    note,
    model.slow && usualCauses(t),
    model.link && linkAgain(model.link, t, actions),
    h("ol", { class: "phases" }, ...phases),
    remarks,
    ...stop,
  ];
  return { children, update };
}
