/** The picture: as it is now while it is drawn, finished, and all the ones before it. */

import { useState } from "react";

import type { Job } from "../api/client";
import { drawings, isOver, pictures, type Finished } from "../state/jobs";
import { useShared } from "../state/page";
import { Picture } from "./picture";
import { PictureDialog } from "./picture-dialog";
import { usePreview } from "./preview";

const SHOWN = 60;

/** `compose` is called when the form has been filled and should be seen. */
export function Stage({ compose }: { compose: () => void }) {
  const { jobs: all, chosen, choose } = useShared();
  const jobs = drawings(all);
  const [open, setOpen] = useState<Finished | null>(null);
  const [limit, setLimit] = useState(SHOWN);
  const running = jobs.find((job) => job.state === "running");
  const job = jobs.find((each) => each.id === chosen) ?? running ?? jobs[0];
  const finished = pictures(jobs);
  return (
    <section className="stage" aria-label="Pictures">
      {job === undefined ? <Welcome /> : <Current key={job.id} job={job} open={setOpen} />}
      {finished.length > 1 && (
        <>
          <h2 className="quiet">Drawn</h2>
          <ul className="strip">
            {finished.slice(0, limit).map((each) => (
              <li key={each.picture.id}>
                <button type="button" aria-label={`Picture with seed ${each.picture.seed}: ${each.job.request.prompt}`} aria-current={each.job.id === job?.id} onClick={() => (each.job.id === job?.id ? setOpen(each) : choose(each.job.id))}>
                  <Picture picture={each.picture} alt="" />
                </button>
              </li>
            ))}
          </ul>
          {finished.length > limit && <button type="button" onClick={() => setLimit(limit + SHOWN)}>Show more</button>}
        </>
      )}
      {open !== null && <PictureDialog finished={open} close={() => setOpen(null)} compose={compose} />}
    </section>
  );
}

function Welcome() {
  return (
    <div className="frame empty">
      <p>
        Write what to draw, click a LoRA to add it,
        <br />
        and press <kbd>Ctrl</kbd> <kbd>Enter</kbd>.
      </p>
    </div>
  );
}

function Current({ job, open }: { job: Job; open: (finished: Finished) => void }) {
  const { interrupt } = useShared();
  const preview = usePreview(job.state === "running" ? job.preview : null);
  const many = job.pictures.length > 1 || (job.pictures.length === 1 && !isOver(job));
  return (
    <>
      <div className={many ? "frame many" : "frame"} data-state={job.state}>
        {job.pictures.map((picture) => (
          <button key={picture.id} type="button" className="drawn" aria-label={`Open the picture with seed ${picture.seed}`} onClick={() => open({ job, picture })}>
            <Picture picture={picture} alt={job.request.prompt} />
          </button>
        ))}
        {!isOver(job) && (preview ? <img className="preview" src={preview} alt="The picture as it is now" /> : <Weaving waits={job.state === "queued"} />)}
        {isOver(job) && job.pictures.length === 0 && <p className="nothing">{job.state === "failed" ? "Nothing was drawn." : "Interrupted before the first picture."}</p>}
      </div>
      {!isOver(job) && <ProgressLine job={job} interrupt={() => interrupt(job.id)} />}
      {job.mistake !== null && <p className="wrong" role="alert">{job.mistake.message}</p>}
      <Notes job={job} />
    </>
  );
}

function ProgressLine({ job, interrupt }: { job: Job; interrupt: () => void }) {
  const queued = job.state === "queued";
  return (
    <div className="progress" role="status">
      <progress aria-label="Progress" max={Math.max(1, job.steps)} value={job.step} />
      <p>
        <span>{queued ? `Waiting, number ${job.place} in the queue` : job.steps === 0 ? "Opening the base" : `Step ${job.step} of ${job.steps}`}</span>
        {job.rate > 0 && <span>{job.rate >= 1 ? `${job.rate.toFixed(1)} steps a second` : `${(1 / job.rate).toFixed(1)} seconds a step`}</span>}
        {job.seconds_left !== null && job.rate > 0 && <span>{left(job.seconds_left)} left</span>}
        <button type="button" onClick={interrupt}>Interrupt</button>
      </p>
    </div>
  );
}

function left(seconds: number): string {
  const whole = Math.max(0, Math.ceil(seconds));
  if (whole < 60) return `${whole} s`;
  return whole < 3600 ? `${Math.floor(whole / 60)} min ${whole % 60} s` : `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}

function Notes({ job }: { job: Job }) {
  const notes = [...new Set([...job.notes, ...job.pictures.flatMap((picture) => picture.notes)])];
  return (
    <>
      {notes.length > 0 && (
        <ul className="notes" aria-label="Notes">
          {notes.map((note) => <li key={note}>{note}</li>)}
        </ul>
      )}
      {job.report !== "" && (
        <details className="report">
          <summary>What the LoRAs did</summary>
          <pre>{job.report}</pre>
        </details>
      )}
    </>
  );
}

function Weaving({ waits }: { waits: boolean }) {
  return (
    <span className={waits ? "weaving waits" : "weaving"} aria-hidden="true">
      <span /><span /><span /><span /><span />
    </span>
  );
}
