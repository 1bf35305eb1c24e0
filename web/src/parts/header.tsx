/** The head of the page: its name, where one is, light or dark. */

import { useEffect, useState } from "react";

import { useShared } from "../state/page";

export type Place = "generate" | "networks" | "models" | "settings";
const PLACES: readonly (readonly [Place, string])[] = [
  ["generate", "Generate"],
  ["networks", "Networks"],
  ["models", "Models"],
  ["settings", "Settings"],
];

export function Header({ place, go, used }: { place: Place; go: (place: Place) => void; used: number }) {
  const { base, settings } = useShared();
  return (
    <header className="header">
      <h1 className="name">
        <Mark />
        loraloom
      </h1>
      <nav aria-label="Places">
        {PLACES.map(([each, label]) => (
          <button key={each} type="button" className={`place to-${each}`} aria-current={place === each ? "page" : undefined} onClick={() => go(each)}>
            {label}
            {each === "networks" && used > 0 && <span className="count" aria-label={`${used} in the prompt`}>{used}</span>}
          </button>
        ))}
      </nav>
      <p className="base-name" title="The base model that draws">{base?.title ?? base?.name ?? String(settings?.values["base"] ?? "")}</p>
      <ThemeSwitch />
    </header>
  );
}

/** Warp and weft. */
function Mark() {
  return (
    <svg className="mark" viewBox="0 0 24 24" aria-hidden="true">
      <path className="warp" d="M6 2v8m0 4v8M12 2v2m0 4v8m0 4v2M18 2v8m0 4v8" />
      <path className="weft" d="M2 6h2m4 0h8m4 0h2M2 12h8m4 0h8M2 18h2m4 0h8m4 0h2" />
    </svg>
  );
}

const THEMES = ["auto", "light", "dark"] as const;
type Theme = (typeof THEMES)[number];

function ThemeSwitch() {
  const [theme, setTheme] = useState<Theme>(() => THEMES.find((each) => each === localStorage.getItem("loraloom.theme")) ?? "auto");
  useEffect(() => {
    localStorage.setItem("loraloom.theme", theme);
    document.documentElement.dataset["theme"] = theme;
  }, [theme]);
  const next = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length] ?? "auto";
  return (
    <button type="button" className="icon" aria-label={`Colours: ${theme}. Change to ${next}`} title={`Colours: ${theme}`} onClick={() => setTheme(next)}>
      <svg viewBox="0 0 24 24" aria-hidden="true">
        {theme === "light" && <path d="M12 7a5 5 0 1 0 0 10 5 5 0 0 0 0-10M12 1v3M12 20v3M1 12h3M20 12h3M4.2 4.2l2.1 2.1M17.7 17.7l2.1 2.1M4.2 19.8l2.1-2.1M17.7 6.3l2.1-2.1" />}
        {theme === "dark" && <path d="M20 14.5A8.5 8.5 0 0 1 9.5 4a8.5 8.5 0 1 0 10.5 10.5" />}
        {theme === "auto" && (
          <>
            <circle cx="12" cy="12" r="9" />
            <path className="full" d="M12 3a9 9 0 0 1 0 18z" />
          </>
        )}
      </svg>
    </button>
  );
}
