/** The picture as it is now: the next one is asked for when the last has come, so that quick steps do not cut one another off. */

import { useEffect, useRef, useState } from "react";

/** What to show for the newest of these addresses; null before the first has come. */
export function usePreview(newest: string | null): string | null {
  const [shown, setShown] = useState<string | null>(null);
  const busy = useRef(false);
  const [turn, setTurn] = useState(0);
  useEffect(() => {
    if (newest === null || busy.current || newest === shown) return;
    busy.current = true;
    const image = new Image();
    const over = (url: string | null) => {
      busy.current = false;
      if (url === null) setTurn((count) => count + 1);
      else setShown(url);
    };
    image.addEventListener("load", () => over(newest));
    image.addEventListener("error", () => window.setTimeout(() => over(null), 500));
    image.src = newest;
  }, [newest, shown, turn]);
  return newest === null ? null : shown;
}
