/** Everything about one LoRA. Its metadata and notes come from strangers: they are shown as text and nothing else. */

import { useEffect, useState } from "react";

import { api, type Network, type NetworkDetails } from "../api/client";
import { Chips } from "./network-card";
import { Dialog } from "./dialog";
import { useText } from "../state/text";

export function NetworkDialog({ network, close }: { network: Network; close: () => void }) {
  const [details, setDetails] = useState<NetworkDetails | null>(null);
  const [wrong, setWrong] = useState("");
  const { what } = useText();
  useEffect(() => {
    let over = false;
    api.network(network.id).then(
      (found) => over || setDetails(found),
      (error: unknown) => over || setWrong(error instanceof Error ? error.message : String(error)),
    );
    return () => {
      over = true;
    };
  }, [network.id]);
  const metadata = Object.entries(details?.metadata ?? {});
  return (
    <Dialog title={network.name} close={close}>
      <div className="about-network">
        {network.preview !== null && <img src={network.preview} alt="" width="256" height="256" />}
        <dl className="facts">
          {facts(network).map(([name, value]) => (
            <div key={name}>
              <dt>{name}</dt>
              <dd>{name === "Hash" || name === "In a prompt" ? <code>{value}</code> : value}</dd>
            </div>
          ))}
        </dl>
      </div>
      {what === "prompt" && network.triggers.length > 0 && (
        <>
          <h3>Trigger words</h3>
          <div className="chips"><Chips words={network.triggers} /></div>
        </>
      )}
      {details !== null && details.notes !== "" && (
        <>
          <h3>Notes</h3>
          <p className="foreign">{details.notes}</p>
        </>
      )}
      {wrong !== "" && <p className="wrong" role="alert">{wrong}</p>}
      {metadata.length > 0 && (
        <details className="metadata">
          <summary>Metadata of the file ({metadata.length})</summary>
          <dl>
            {metadata.map(([name, value]) => (
              <div key={name}>
                <dt>{name}</dt>
                <dd className="foreign">{value}</dd>
              </div>
            ))}
          </dl>
        </details>
      )}
    </Dialog>
  );
}

function facts(network: Network): [string, string][] {
  const all: [string, string][] = [
    ["Problem", network.problem],
    ["Notes beside it", network.notices.join("\n")],
    ["Base", network.base || network.family || "not known"],
    ["Type", network.types.join(", ")],
    ["Rank", network.rank],
    ["Modules", network.modules > 0 ? String(network.modules) : ""],
    ["Preferred strength", network.strength === null ? "" : String(network.strength)],
    ["In a prompt", `<lora:${network.tag}>`],
    ["Folder", network.folder],
    ["Size", size(network.size)],
    ["Changed", new Date(network.modified).toLocaleString()],
    ["Hash", network.hash],
  ];
  return all.filter(([, value]) => value !== "");
}

function size(bytes: number): string {
  return bytes < 1e6 ? `${(bytes / 1e3).toFixed(0)} kB` : bytes < 1e9 ? `${(bytes / 1e6).toFixed(1)} MB` : `${(bytes / 1e9).toFixed(2)} GB`;
}
