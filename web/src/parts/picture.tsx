/** A finished picture. Small ones are not blown up over the whole stage. */

import type { DrawnPicture } from "../api/client";

const SMALL = 160; // pixels

export function Picture({ picture, alt }: { picture: DrawnPicture; alt: string }) {
  const small = Math.max(picture.width, picture.height) <= SMALL;
  return <img className={small ? "tiny" : undefined} src={picture.url} alt={alt} width={picture.width} height={picture.height} decoding="async" />;
}
