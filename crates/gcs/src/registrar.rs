//! Fake nodes and placement groups in a real GCS.
