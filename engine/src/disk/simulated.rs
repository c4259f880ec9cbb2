#[derive(Debug)]
pub struct SimulatedDisk {}
pub enum Fault {}
pub enum Operation {}
