"use strict";
// Writes a PNG whose pixel values are classes, as "convlora predict" does: a canvas could only save their colours.
async function indexedPng(width, height, values, palette) {
  const table = new Uint32Array(256).map((_, n) => {
    for (let bit = 0; bit < 8; bit++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
    return n;
  });
  const chunk = (name, content) => {
    const bytes = new Uint8Array(12 + content.length);
    const view = new DataView(bytes.buffer);
    view.setUint32(0, content.length);
    bytes.set(new TextEncoder().encode(name), 4);
    bytes.set(content, 8);
    let sum = 0xffffffff;
    for (let place = 4; place < bytes.length - 4; place++) sum = table[(sum ^ bytes[place]) & 0xff] ^ (sum >>> 8);
    view.setUint32(bytes.length - 4, ~sum >>> 0);
    return bytes;
  };
  const header = new Uint8Array(13);
  new DataView(header.buffer).setUint32(0, width);
  new DataView(header.buffer).setUint32(4, height);
  header.set([8, 3, 0, 0, 0], 8);
  const rows = new Uint8Array(height * (width + 1)); // each begins with 0: it is not filtered
  for (let y = 0; y < height; y++) rows.set(values.subarray(y * width, (y + 1) * width), y * (width + 1) + 1);
  const packed = new Blob([rows]).stream().pipeThrough(new CompressionStream("deflate"));
  const content = new Uint8Array(await new Response(packed).arrayBuffer());
  return new Blob([
    new Uint8Array([137, 80, 78, 71, 13, 10, 26, 10]), chunk("IHDR", header), chunk("PLTE", palette),
    chunk("tEXt", new TextEncoder().encode("Software\0convlora")), chunk("IDAT", content), chunk("IEND", new Uint8Array(0)),
  ], { type: "image/png" });
}
