//! From .debs to a finished tree: the sandboxed stages, then pure functions over their result.
