use value::Result; use super::*; pub(super) fn run(_base: &Base, _input: CheckpointInput<'_>) -> Result<Base> { todo!() }
