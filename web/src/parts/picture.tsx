/** A finished picture. Small ones keep their pixels when they are shown large. */

import type { DrawnPicture } from "../api/client";

const SMALL = 160;

export function Picture({ picture, alt }: { picture: DrawnPicture; alt: string }) {
  const small = Math.max(picture.width, picture.height) <= SMALL;
  return <img className={small ? "pixels" : undefined} src={picture.url} alt={alt} width={picture.width} height={picture.height} decoding="async" />;
}
