//! One stream between two replicas: what it survives, and what bounds it.
