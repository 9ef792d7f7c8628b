//! Analytics Engine datasets.
