//! The control plane: sources, registry, translation, snapshots, xDS, CA.
