//! What all reconcilers share.
