//! Verified downloads: candidates in order, resume, bounded connections.
