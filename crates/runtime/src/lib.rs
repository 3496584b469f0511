//! What every process needs: logging, metrics registry, admin HTTP, drain, signals.
