//! Trees to archives: canonical tar members, compressed in frames, with the pct configuration first.
