/** A mix on its way to a file, and the report of what was written. */

import { useEffect, useState } from "react";

import { api, type ExtractJob, type Extraction, type ExtractReport } from "../api/client";
import { instead } from "../prompt/mix";
import { percent, size } from "../state/amounts";
import { isOver } from "../state/jobs";
import { useShared } from "../state/page";
import { ModuleName } from "./module-name";
import { ModulePlot } from "./module-plot";
import { ModuleTable } from "./module-table";

/** `compose` is called when the prompt has the new tag and should be seen. */
export function ExtractionView({ job, compose }: { job: ExtractJob; compose: () => void }) {
  return (
    <section className="extraction" aria-label={`File ${job.request.name}`}>
      <h2>{job.request.name}</h2>
      {!isOver(job) && <Running job={job} />}
      {job.state === "interrupted" && <p className="nothing">Interrupted: nothing was written.</p>}
      {job.mistake !== null && <p className="wrong" role="alert">{job.mistake.message}</p>}
      {job.result != null && <Done job={job} result={job.result} compose={compose} />}
      {job.notes.length > 0 && (
        <ul className="notes" aria-label="Notes">
          {job.notes.map((note) => <li key={note}>{note}</li>)}
        </ul>
      )}
    </section>
  );
}

function Running({ job }: { job: ExtractJob }) {
  const { interrupt } = useShared();
  return (
    <div className="progress" role="status">
      <progress aria-label="Progress" max={Math.max(1, job.steps)} value={job.step} />
      <p>
        <span>{said(job)}</span>
        <button type="button" onClick={() => interrupt(job.id)}>Interrupt</button>
      </p>
    </div>
  );
}

function said(job: ExtractJob): string {
  if (job.state === "queued") return `Waiting, number ${job.place} in the queue`;
  if (job.steps === 0) return "Reading the LoRAs";
  return job.step === job.steps ? "Writing, and reading it back" : `Module ${job.step} of ${job.steps}`;
}

function Done({ job, result, compose }: { job: ExtractJob; result: Extraction; compose: () => void }) {
  const { edit } = useShared();
  const [report, setReport] = useState<ExtractReport | null>(null);
  const [wrong, setWrong] = useState("");
  useEffect(() => {
    let over = false;
    api.report(job.id).then(
      (found) => over || setReport(found),
      (error: unknown) => over || setWrong(error instanceof Error ? error.message : String(error)),
    );
    return () => {
      over = true;
    };
  }, [job.id]);
  return (
    <>
      <dl className="facts">
        {facts(result).map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{value}</dd>
          </div>
        ))}
        {result.worst !== null && (
          <div>
            <dt>Worst module</dt>
            <dd>{percent(result.worst.written)} in <ModuleName name={result.worst.module} /></dd>
          </div>
        )}
        {result.furthest !== null && (
          <div>
            <dt>Error of outputs</dt>
            <dd>at most {percent(result.furthest.output)}, in <ModuleName name={result.furthest.module} />, for a fixed random input</dd>
          </div>
        )}
      </dl>
      <div className="acts">
        <button
          type="button"
          className="primary"
          onClick={() => {
            edit((prompt) => instead(prompt, job.request.mix, result.tag));
            compose();
          }}
        >
          Use it
        </button>
        <p className="quiet">puts <code>{`<lora:${result.tag}:1>`}</code> into the prompt in place of the mix</p>
      </div>
      {wrong !== "" && <p className="wrong" role="alert">{wrong}</p>}
      {report !== null && report.rows.length > 0 && (
        <>
          <ModulePlot rows={report.rows} />
          <ModuleTable rows={report.rows} />
        </>
      )}
    </>
  );
}

function facts(result: Extraction): [string, string][] {
  const [least, most] = result.ranks;
  const ranks = most === 0 ? "" : least === most ? `, rank ${most}` : `, ranks ${least} to ${most}`;
  const types = Object.entries(result.types).map(([type, count]) => `${type} on ${count} modules`);
  const bytes = result.size === null ? "" : `, ${size(result.size)}`;
  return [
    ["File", `${result.name}.safetensors in ${result.folder}${bytes}`],
    ["For", `${result.base}; ${result.dialect} naming, ${result.dtype}`],
    ["Holds", `${types.join(", ")}${ranks}${result.method.startsWith("rank") ? "" : ` (${result.method})`}`],
    ["Error as combined", percent(result.error)],
    ["Error as written", percent(result.written)],
  ];
}
