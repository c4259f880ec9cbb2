use super::*;
use crate::types::oid::*;

#[test]
fn placeholder() {
    assert_eq!(output_string(&input(Type::new(INT4), " 42 ", &Style::default()).unwrap(), INT4, &Style::default()), "42");
}
