/** All jobs that the page knows, newest first, as the server last told of them. */

import type { AnyJob, DrawnPicture, ExtractJob, Job } from "../api/client";

export type News = { readonly kind: "one"; readonly job: AnyJob } | { readonly kind: "all"; readonly jobs: readonly AnyJob[] };

const OVER: readonly AnyJob["state"][] = ["done", "failed", "interrupted"];

export function isOver(job: AnyJob): boolean {
  return OVER.includes(job.state);
}

/** The jobs after news. A list is what the server keeps, so what it lacks is gone; news that are older than what is known are not. */
export function hear(known: readonly AnyJob[], news: News): readonly AnyJob[] {
  if (news.kind === "one") {
    const others = known.filter((job) => job.id !== news.job.id);
    const before = known.find((job) => job.id === news.job.id);
    return sorted([...others, newer(before, news.job)]);
  }
  return sorted(news.jobs.map((job) => newer(known.find((each) => each.id === job.id), job)));
}

/** Answers may overtake one another: a job that is over does not run again, and steps do not go back. */
function newer(before: AnyJob | undefined, after: AnyJob): AnyJob {
  if (before === undefined || isOver(after)) return after;
  return isOver(before) || before.step > after.step ? before : after;
}

function sorted(jobs: readonly AnyJob[]): readonly AnyJob[] {
  return [...jobs].sort((left, right) => right.created.localeCompare(left.created) || left.id.localeCompare(right.id));
}

/** The jobs that draw pictures. */
export function drawings(jobs: readonly AnyJob[]): Job[] {
  return jobs.filter((job) => job.kind === "draw");
}

/** The jobs that save a mix as a file. */
export function extractions(jobs: readonly AnyJob[]): ExtractJob[] {
  return jobs.filter((job) => job.kind === "extract");
}

export interface Finished {
  readonly job: Job;
  readonly picture: DrawnPicture;
}

/** Every finished picture, the newest job's first; within a job in the order of its seeds. */
export function pictures(jobs: readonly AnyJob[]): Finished[] {
  return drawings(jobs).flatMap((job) => job.pictures.map((picture) => ({ job, picture })));
}
