/** The page: who is in, and its places: generate, networks, models, settings. */

import { useEffect, useState } from "react";

import { api, ApiError } from "./api/client";
import { Header, type Place } from "./parts/header";
import { Login } from "./parts/login";
import { Composer } from "./parts/composer";
import { ModelsPage } from "./parts/models";
import { NetworksPanel } from "./parts/networks";
import { SettingsPage } from "./parts/settings";
import { Stage } from "./parts/stage";
import { PageContext, usePage } from "./state/page";
import { mixOf } from "./prompt/mix";
import { rows } from "./prompt/rows";

type Access = "asking" | "in" | "out" | "unreachable";

/** Login where the server wants one, else the page. */
export function App() {
  const [access, setAccess] = useState<Access>("asking");
  const [attempt, setAttempt] = useState(0);
  useEffect(() => {
    let over = false;
    const timer = access === "unreachable" ? window.setTimeout(() => setAttempt(attempt + 1), 3000) : 0;
    if (access === "asking" || attempt > 0) {
      api.settings().then(
        () => over || setAccess("in"),
        (error: unknown) => over || setAccess(error instanceof ApiError && error.status === 401 ? "out" : "unreachable"),
      );
    }
    return () => {
      over = true;
      window.clearTimeout(timer);
    };
  }, [access, attempt]);
  if (access === "in") return <Page leave={() => setAccess("out")} />;
  if (access === "out") return <Login enter={() => setAccess("in")} />;
  return <p className="waiting" role="status">{access === "asking" ? "" : "The server does not answer. Trying again…"}</p>;
}

function Page({ leave }: { leave: () => void }) {
  const page = usePage(leave);
  const [place, setPlace] = useState<Place>("generate");
  const saveMix = () => {
    page.extracting.set({ mix: mixOf(page.draft.prompt) });
    setPlace("models");
  };
  const go = (next: Place) => (next === "models" && page.extracting.plan.mix.trim() === "" ? saveMix() : setPlace(next));
  return (
    <PageContext value={page}>
      <Header place={place} go={go} used={rows(page.draft.prompt).length} />
      {page.trouble !== "" && <p className="trouble" role="alert">{page.trouble}</p>}
      <main className={`page at-${place}`}>
        {place === "settings" && <SettingsPage />}
        {place === "models" && <ModelsPage compose={() => setPlace("generate")} />}
        {(place === "generate" || place === "networks") && (
          <>
            <Composer saveMix={saveMix} />
            <Stage compose={() => setPlace("generate")} />
            <NetworksPanel />
          </>
        )}
      </main>
    </PageContext>
  );
}
