// The difference between a variant and its original: |variant - original|, maximum over the channels, as a heat map.

/** Differences of a quarter of the range and more have the last colour: larger ones are rare, and detail is in the small. */
const FULL = 64;
const HEAT = [[13, 8, 30], [66, 20, 92], [140, 36, 104], [212, 62, 84], [246, 124, 62], [252, 196, 84], [252, 250, 190]];
const heat = Uint8ClampedArray.from({ length: 256 * 3 }, (_, at) => {
  const place = Math.min(1, Math.floor(at / 3) / FULL) * (HEAT.length - 1);
  const low = Math.min(HEAT.length - 2, Math.floor(place)), part = place - low;
  return HEAT[low][at % 3] * (1 - part) + HEAT[low + 1][at % 3] * part;
});

function pixels(picture, width, height) {
  const canvas = make("canvas", { width, height });
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  pen.drawImage(picture, 0, 0, width, height);
  return pen.getImageData(0, 0, width, height).data;
}

/** Draws the difference into `canvas`; returns its mean over pixels and channels, in steps of 0..255. */
function drawDifference(canvas, variant, original) {
  const { naturalWidth: width, naturalHeight: height } = variant;
  const a = pixels(variant, width, height), b = pixels(original, width, height);
  Object.assign(canvas, { width, height });
  const pen = canvas.getContext("2d"), drawn = pen.createImageData(width, height);
  let sum = 0;
  for (let at = 0; at < a.length; at += 4) {
    const red = Math.abs(a[at] - b[at]), green = Math.abs(a[at + 1] - b[at + 1]), blue = Math.abs(a[at + 2] - b[at + 2]);
    const most = Math.max(red, green, blue) * 3;
    sum += red + green + blue;
    drawn.data[at] = heat[most];
    drawn.data[at + 1] = heat[most + 1];
    drawn.data[at + 2] = heat[most + 2];
    drawn.data[at + 3] = 255;
  }
  pen.putImageData(drawn, 0, 0);
  return sum / (width * height * 3);
}

function drawLegend() {
  const pen = document.querySelector("#legend canvas").getContext("2d");
  for (let x = 0; x < 128; x++) {
    const at = Math.floor(x * FULL / 127) * 3;
    pen.fillStyle = `rgb(${heat[at]} ${heat[at + 1]} ${heat[at + 2]})`;
    pen.fillRect(x, 0, 1, 1);
  }
}
