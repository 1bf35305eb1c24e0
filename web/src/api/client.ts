/** Our own HTTP API as functions. Types come from the server's schema; nothing else on the page calls the server. */

import type {
  BaseInfo,
  CombineRequest,
  Curve,
  ErrorAnswer,
  ExtractJob,
  ExtractPlaces,
  ExtractReport,
  ExtractRequest,
  Health,
  ImageRequest,
  Job,
  Jobs,
  Mistake,
  NetworkDetails,
  Networks,
  SettingsView,
} from "./schema";

export type AnyJob = Job | ExtractJob;
export type {
  BaseInfo,
  CombineRequest,
  Curve,
  DrawnPicture,
  Extraction,
  ExtractJob,
  ExtractPlaces,
  ExtractReport,
  ExtractRequest,
  Health,
  ImageRequest,
  Job,
  Mistake,
  Network,
  NetworkDetails,
  Networks,
  Point,
  Row as ModuleRow,
  SettingsView,
} from "./schema";

/** An answer from 400 up, or no answer at all (status 0). */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    message: string,
    readonly mistake: Mistake | null = null,
  ) {
    super(message);
  }
}

async function ask<T>(path: string, method = "GET", body?: unknown, signal: AbortSignal | null = null): Promise<T> {
  const init: RequestInit = { method, signal };
  if (body !== undefined) {
    init.body = JSON.stringify(body);
    init.headers = { "Content-Type": "application/json" };
  }
  let response: Response;
  try {
    response = await fetch(path, init);
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError(0, "The server does not answer. Is it still running?");
  }
  if (!response.ok) throw await errorOf(response);
  return (await response.json()) as T;
}

async function errorOf(response: Response): Promise<ApiError> {
  try {
    const answer = (await response.json()) as ErrorAnswer;
    return new ApiError(response.status, answer.detail, answer.mistake ?? null);
  } catch {
    return new ApiError(response.status, `The server answered ${response.status} ${response.statusText}.`);
  }
}

export const api = {
  health: () => ask<Health>("/api/v1/health"),
  base: () => ask<BaseInfo>("/api/v1/base"),
  samplers: () => ask<string[]>("/api/v1/samplers"),
  networks: () => ask<Networks>("/api/v1/networks"),
  refresh: () => ask<Networks>("/api/v1/networks/refresh", "POST"),
  network: (id: string) => ask<NetworkDetails>(`/api/v1/networks/${encodeURIComponent(id)}`),
  draw: (request: ImageRequest) => ask<Job>("/api/v1/jobs", "POST", request),
  jobs: () => ask<Jobs>("/api/v1/jobs"),
  extract: (request: ExtractRequest) => ask<ExtractJob>("/api/v1/extract", "POST", request),
  curve: (request: CombineRequest, signal: AbortSignal) => ask<Curve>("/api/v1/extract/curve", "POST", request, signal),
  places: () => ask<ExtractPlaces>("/api/v1/extract"),
  report: (id: string) => ask<ExtractReport>(`/api/v1/extract/${encodeURIComponent(id)}`),
  interrupt: (id: string) => ask<AnyJob>(`/api/v1/jobs/${encodeURIComponent(id)}/interrupt`, "POST"),
  settings: () => ask<SettingsView>("/api/v1/settings"),
  change: (changes: Record<string, unknown>) => ask<SettingsView>("/api/v1/settings", "PATCH", changes),
  login: (form: FormData) => login(form),
};

async function login(form: FormData): Promise<void> {
  const fields = new URLSearchParams();
  for (const name of ["username", "password"]) fields.set(name, String(form.get(name) ?? ""));
  const response = await fetch("/login", { method: "POST", body: fields });
  if (!response.ok) throw await errorOf(response);
}
