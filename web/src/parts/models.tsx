/** Models > Extract LoRA: a mix of LoRAs becomes one file; what that costs is seen before anything is written. */

import { useEffect, useMemo, useRef, useState } from "react";

import type { Curve } from "../api/client";
import { mixOf } from "../prompt/mix";
import { percent, size } from "../state/amounts";
import { useCurve } from "../state/curve";
import { extractions } from "../state/jobs";
import { expected, untold, type Outlook } from "../state/outlook";
import { boundOf, bytes, type Plan } from "../state/plan";
import { useShared } from "../state/page";
import { TextContext } from "../state/text";
import { CurvePlot } from "./curve-plot";
import { Editor } from "./editor";
import { ExtractForm, PLACED } from "./extract-form";
import { ExtractionView } from "./extraction";
import { NetworksPanel } from "./networks";
import { TagRows } from "./rows";

const SHOWN = 30; // files before this one

/** `compose` is called when the prompt has changed and should be seen. */
export function ModelsPage({ compose }: { compose: () => void }) {
  const { draft, jobs, base, extracting } = useShared();
  const { plan, mistake, set, edit, save } = extracting;
  const drawn = useCurve(plan, base?.name ?? null);
  const curve = drawn.curve !== null && drawn.curve.modules > 0 ? drawn.curve : null;
  const point = curve === null ? null : expected(plan, curve);
  const wrong = mistake ?? drawn.mistake;
  const text = useMemo(() => ({ what: "mix" as const, text: plan.mix, edit }), [plan.mix, edit]);
  const fromPrompt = mixOf(draft.prompt);
  const files = extractions(jobs);
  const [chosen, choose] = useState<string | null>(null);
  const form = useRef<HTMLFormElement>(null);
  // What came of a click on Save is seen where it is; while somebody changes something, nothing moves.
  useEffect(() => {
    if (mistake !== null) form.current?.querySelector(".wrong")?.scrollIntoView({ block: "nearest" });
  }, [mistake]);
  const file = files.find((job) => job.id === chosen) ?? files[0];
  return (
    <TextContext value={text}>
      <section className="composer" aria-label="Extract LoRA">
        <form
          ref={form}
          onSubmit={(event) => {
            event.preventDefault();
            choose(null);
            save();
          }}
        >
          <div>
            <h2>Extract LoRA</h2>
            <p className="quiet">One file that draws what a mix draws.</p>
          </div>
          <Editor
            small
            label="Mix"
            value={plan.mix}
            placeholder="Click LoRAs to add them."
            mistake={wrong?.field === "mix" ? wrong : null}
            seek={mistake !== null}
            onChange={(mix) => set({ mix })}
            onDraw={save}
          />
          {fromPrompt !== "" && fromPrompt !== plan.mix && (
            <button type="button" className="save-mix" onClick={() => set({ mix: fromPrompt })}>Take the mix of the prompt</button>
          )}
          <TagRows />
          <ExtractForm curve={drawn.curve} wrong={wrong}>{curve !== null && <Forecast plan={plan} curve={curve} point={point} />}</ExtractForm>
        </form>
      </section>
      <section className="stage" aria-label="What it would be">
        {curve !== null ? (
          <div className={drawn.busy ? "outlook busy" : "outlook"}>
            <Forecast plan={plan} curve={curve} point={point} />
            <CurvePlot curve={curve} point={point} bound={boundOf(plan)} choose={(rank) => set({ goal: "rank", rank })} />
          </div>
        ) : (
          <div className="frame empty" role="status">
            {drawn.mistake !== null && drawn.mistake.field !== "mix" ? (
              <p className="wrong" role={PLACED.includes(drawn.mistake.field ?? "") ? undefined : "alert"}>{drawn.mistake.message}</p>
            ) : (
              <p>{drawn.busy ? "Looking at the mix…" : "A mix shows here what it costs as one file."}</p>
            )}
          </div>
        )}
        {file !== undefined && <ExtractionView key={file.id} job={file} compose={compose} />}
        {files.length > 1 && (
          <>
            <h2 className="quiet">Files</h2>
            <div className="chips">
              {files.slice(0, SHOWN).map((job) => (
                <button key={job.id} type="button" className="chip" aria-pressed={job.id === file?.id} onClick={() => choose(job.id)}>{job.request.name}</button>
              ))}
            </div>
          </>
        )}
      </section>
      <NetworksPanel />
    </TextContext>
  );
}

/** In front of the plot, and where there is no room for both side by side, in the form too. */
function Forecast({ plan, curve, point }: { plan: Plan; curve: Curve; point: Outlook | null }) {
  if (point === null) return <p className="forecast">{untold(plan)}</p>;
  const most = point.atMost ? "at most " : "";
  return (
    <p className="forecast">
      <strong>{ranks(plan, point.least, point.most)}</strong>
      <span>{point.error === 0 ? "nothing left out" : `error ${most}${percent(point.error)}, worst module ${most}${percent(point.worst)}`}</span>
      <span>about {size(bytes(point.values, plan))}</span>
      {plan.goal !== "exact" && <span className="quiet">exact: {size(curve.exact.values * 4)}</span>}
    </p>
  );
}

function ranks(plan: Plan, least: number, most: number): string {
  if (most === 0) return "Whole changes";
  if (plan.goal === "rank") return `Rank ${plan.rank}`;
  return least === most ? `Rank ${most}` : `Ranks ${least} to ${most}`;
}
