//! The primary's end: who may continue where, full syncs, the feed, acknowledgements.
