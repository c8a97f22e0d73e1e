//! What each command does, without knowing how it is shown.
