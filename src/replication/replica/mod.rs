//! The replica's end: the link to the primary, the load of its snapshot, the application of its stream.
