/** Where a picture is described: prompt, rows, negative prompt, options, draw. */

import { rows } from "../prompt/rows";
import { useShared } from "../state/page";
import { drawings, isOver } from "../state/jobs";
import { Editor } from "./editor";
import { Options } from "./options";
import { TagRows } from "./rows";

/** `saveMix` is called to make one file of the prompt's LoRAs. */
export function Composer({ saveMix }: { saveMix: () => void }) {
  const { draft, mistake, jobs: all, asking, set, draw, interrupt } = useShared();
  const jobs = drawings(all);
  const running = jobs.find((job) => job.state === "running") ?? jobs.find((job) => !isOver(job));
  const elsewhere = mistake !== null && mistake.field !== "prompt" && mistake.field !== "negative_prompt";
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
        {rows(draft.prompt).length > 0 && <button type="button" className="save-mix" onClick={saveMix}>Save this mix…</button>}
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
