# Draws what benches/scale measured as an SVG of four panels. Lines of input:
# K N | building, wall cpu largest anonymous shared main | nothing changed, the same | MiB of the store | MiB of the results
{
  if (!($1 in known)) { known[$1] = ++lists; list[lists] = $1 }
  k = known[$1]; i = ++points[k]
  x[k, i] = $2
  y[1, k, i] = $3; y[2, k, i] = $9 * 1000; y[3, k, i] = $15; y[4, k, i] = $8 / 1024
  if ($2 > widest) widest = $2
  for (p = 1; p <= 4; p++) if (y[p, k, i] > highest[p]) highest[p] = y[p, k, i]
}

# The step of an axis that ends at `value`: 1, 2 or 5 times a power of ten, four to eight of them.
function step(value,   power) {
  power = 10 ^ int(log(value) / log(10))
  if (value < 1) power /= 10
  if (value / power <= 1.6) return power / 5
  if (value / power <= 4) return power / 2
  if (value / power <= 8) return power
  return power * 2
}
function text(at_x, at_y, anchor, class, what) {
  printf "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\" class=\"%s\">%s</text>\n", at_x, at_y, anchor, class, what
}
function line(class, x1, y1, x2, y2) {
  printf "<line class=\"%s\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>\n", class, x1, y1, x2, y2
}
function colours(rules, series,   k, colour) {
  print rules
  split(series, colour, " ")
  for (k = 1; k <= lists; k++) printf ".s%d { stroke: %s } .d%d { fill: %s }\n", k, colour[k], k, colour[k]
}
function across(value) { return left + value / (widest * 1.03) * width }
function up(value) { return top + height - value / most * height }

function panel(p,   s, value, k, i) {
  left = (p % 2 ? 70 : 480); top = (p <= 2 ? 90 : 375); width = 320; height = 200
  text(left, top - 14, "start", "title", title[p])
  if (limit[p] > highest[p]) highest[p] = limit[p]
  most = highest[p] * 1.08
  s = step(most)
  for (value = 0; value <= most; value += s) {
    line((value ? "grid" : "axis"), left, up(value), left + width, up(value))
    text(left - 8, up(value) + 4, "end", "number", value)
  }
  line("axis", left, top, left, top + height)
  s = step(widest)
  for (value = 0; value <= widest; value += s) {
    line("axis", across(value), top + height, across(value), top + height + 4)
    text(across(value), top + height + 18, "middle", "number", value)
  }
  text(left + width, top + height + 34, "end", "number", "images")
  if (limit[p]) {
    line("limit", left, up(limit[p]), left + width, up(limit[p]))
    text(left + 6, up(limit[p]) - 6, "start", "number", "at most " limit[p] " " unit[p])
  }
  for (k = 1; k <= lists; k++) {
    printf "<polyline class=\"s%d\" points=\"", k
    for (i = 1; i <= points[k]; i++) printf "%s%.1f,%.1f", (i > 1 ? " " : ""), across(x[k, i]), up(y[p, k, i])
    print "\"/>"
    for (i = 1; i <= points[k]; i++)
      printf "<circle class=\"d%d\" cx=\"%.1f\" cy=\"%.1f\" r=\"3\"/>\n", k, across(x[k, i]), up(y[p, k, i])
  }
}

END {
  title[1] = "Building from the .debs, seconds"
  title[2] = "Nothing changed, milliseconds"; limit[2] = 300; unit[2] = "ms"
  title[3] = "Store beside the .debs, MiB"
  title[4] = "Memory of the program, MiB"; limit[4] = 300; unit[4] = "MiB"
  print "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 830 625\" role=\"img\" aria-label=\"Time, store and memory against the number of images\">"
  print "<style>"
  # Without a knowledge of dark and light, a reader takes the light colours.
  colours(".back { fill: #ffffff } text { fill: #1f2328 } text.number { fill: #59636e } .axis, .limit { stroke: #59636e } .grid { stroke: #d9dee3 }", "#0b62c4 #b3500c #1a7f37 #8250df")
  print "@media (prefers-color-scheme: dark) {"
  colours(".back { fill: #0d1117 } text { fill: #e6edf3 } text.number { fill: #9aa4af } .axis, .limit { stroke: #9aa4af } .grid { stroke: #30363d }", "#58a6ff #f0883e #56d364 #bc8cff")
  print "}"
  print "text { font-family: sans-serif } .title { font-size: 14px; font-weight: 600 } .number { font-size: 12px }"
  print ".limit { stroke-dasharray: 5 4 } polyline { fill: none; stroke-width: 2 }"
  print "</style>"
  print "<rect class=\"back\" width=\"830\" height=\"625\"/>"
  text(70, 34, "start", "title", "Different lists of recipes:")
  for (k = 1; k <= lists; k++) {
    printf "<polyline class=\"s%d\" points=\"%d,29 %d,29\"/><circle class=\"d%d\" cx=\"%d\" cy=\"29\" r=\"3\"/>\n", k, 208 + k * 70, 234 + k * 70, k, 221 + k * 70
    text(242 + k * 70, 34, "start", "number", list[k])
  }
  for (p = 1; p <= 4; p++) panel(p)
  print "</svg>"
}
