/** Where a picture is described: prompt, rows, negative prompt, options, draw. */

import { useShared } from "../state/page";
import { isOver } from "../state/jobs";
import { Editor } from "./editor";
import { Options } from "./options";
import { TagRows } from "./rows";

export function Composer() {
  const { draft, mistake, jobs, asking, set, draw, interrupt } = useShared();
  const running = jobs.find((job) => job.state === "running") ?? jobs.find((job) => !isOver(job));
  const elsewhere = mistake !== null && mistake.field == null;
  return (
    <section className="composer" aria-label="Composer">
      <form
        onSubmit={(event) => {
          event.preventDefault();
          draw();
        }}
      >
        <Editor
          label="Prompt"
          value={draft.prompt}
          placeholder="What to draw. Click a LoRA to add it."
          mistake={mistake?.field === "prompt" ? mistake : null}
          onChange={(prompt) => set({ prompt })}
          onDraw={draw}
        />
        <TagRows />
        <Editor
          small
          label="Negative prompt"
          value={draft.negative}
          placeholder="What to steer away from"
          mistake={mistake?.field === "negative_prompt" ? mistake : null}
          onChange={(negative) => set({ negative })}
          onDraw={draw}
        />
        <Options />
        {elsewhere && <p className="wrong" role="alert">{mistake.message}</p>}
        <div className="draw">
          <button type="submit" className="primary" disabled={asking} title="Ctrl+Enter">
            {running ? "Draw next" : "Draw"} <kbd aria-hidden="true">Ctrl ↵</kbd>
          </button>
          {running && (
            <button type="button" onClick={() => interrupt(running.id)}>Interrupt</button>
          )}
        </div>
      </form>
    </section>
  );
}
