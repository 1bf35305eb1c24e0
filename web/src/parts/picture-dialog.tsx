/** One picture large, with its recipe and what can be done with it. */

import { useState } from "react";

import { recipe } from "../state/draft";
import type { Finished } from "../state/jobs";
import { useShared } from "../state/page";
import { Dialog } from "./dialog";
import { Picture } from "./picture";

export function PictureDialog({ finished, close, compose }: { finished: Finished; close: () => void; compose: () => void }) {
  const { set } = useShared();
  const [copied, setCopied] = useState(false);
  const { job, picture } = finished;
  const use = (values: Parameters<typeof set>[0]) => {
    set(values);
    close();
    compose();
  };
  return (
    <Dialog title={`Seed ${picture.seed}`} close={close}>
      <div className="look">
        <Picture picture={picture} alt={job.request.prompt} />
        <div>
          <pre className="recipe" tabIndex={0} aria-label="Recipe">{picture.recipe}</pre>
          <div className="acts">
            <button type="button" className="primary" onClick={() => use(recipe(job.request, picture))}>Use this recipe</button>
            <button type="button" onClick={() => use({ seed: picture.seed })}>Use this seed</button>
            <button type="button" onClick={() => void navigator.clipboard.writeText(picture.recipe).then(() => setCopied(true))}>{copied ? "Copied" : "Copy recipe"}</button>
            <a className="button" href={picture.url} download={`${picture.seed}.png`}>Download</a>
          </div>
          <p className="quiet">{picture.width} × {picture.height}. The file carries its recipe.</p>
        </div>
      </div>
    </Dialog>
  );
}
