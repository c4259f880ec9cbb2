#[derive(Debug)]
pub struct RealDisk {}
