/** What changes on the server: its events, and while they do not come, the same by asking again and again. */

import { api, type AnyJob } from "./client";

const POLL_MS = 1500;
const RETRY_MS = 15000;

export interface Listener {
  job(job: AnyJob): void;
  /** All jobs that the server keeps: at the start, after a gap, and while polling. */
  jobs(jobs: readonly AnyJob[]): void;
  networks(): void;
  failed(error: unknown): void;
}

/** Listen until the returned function is called. */
export function listen(listener: Listener): () => void {
  let over = false;
  let source: EventSource | null = null;
  let retry = 0;
  const all = async (): Promise<void> => {
    try {
      const { jobs } = await api.jobs();
      if (!over) listener.jobs(jobs);
    } catch (error) {
      if (!over) listener.failed(error);
    }
  };
  const connect = (): void => {
    source = new EventSource("/api/v1/events");
    source.addEventListener("open", () => void all());
    source.addEventListener("job", (event) => listener.job(JSON.parse(event.data as string) as AnyJob));
    source.addEventListener("networks", () => listener.networks());
    source.addEventListener("error", () => {
      // A line that was cut is taken up again by the browser; one that was refused is not.
      if (source?.readyState === EventSource.CLOSED) retry = window.setTimeout(connect, RETRY_MS);
    });
  };
  void all();
  connect();
  const poll = window.setInterval(() => {
    if (source?.readyState !== EventSource.OPEN) void all();
  }, POLL_MS);
  return () => {
    over = true;
    source?.close();
    window.clearTimeout(retry);
    window.clearInterval(poll);
  };
}
