//! Cells: workerd processes, their configuration and their lives.
