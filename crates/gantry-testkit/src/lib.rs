//! gantry-testkit
