//! A [`Vector`] as an expression of DataFusion's operators.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Schema};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;
use execute::Cancel;

use crate::error::{Failure, outward};
use crate::vector::{Column, Vector};

/// `vector` over the values of `inputs`.
pub(crate) struct Compute {
    vector: Arc<Vector>,
    inputs: Vec<Arc<dyn PhysicalExpr>>,
    cancel: Arc<Cancel>,
}

impl Compute {
    /// `cancel` is looked at for every batch: joins evaluate conditions for long before they give a row.
    pub fn new(vector: Vector, inputs: Vec<Arc<dyn PhysicalExpr>>, cancel: Arc<Cancel>) -> Compute {
        Compute { vector: Arc::new(vector), inputs, cancel }
    }
}

impl fmt::Debug for Compute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} of {:?}", self.vector, self.inputs)
    }
}

impl fmt::Display for Compute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.vector)
    }
}

impl PartialEq for Compute {
    fn eq(&self, other: &Compute) -> bool {
        Arc::ptr_eq(&self.vector, &other.vector) && self.inputs == other.inputs
    }
}

impl Eq for Compute {}

impl Hash for Compute {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (Arc::as_ptr(&self.vector) as usize).hash(state);
    }
}

/// What a kernel left undone has no row code behind it: a mistake of ours.
pub(crate) fn settled(failure: Failure) -> Failure {
    match failure {
        Failure::Kernel => Failure::Error(value::Error::internal("a kernel refused a batch for good")),
        other => other,
    }
}

impl PhysicalExpr for Compute {
    fn data_type(&self, _: &Schema) -> Result<DataType> {
        Ok(self.vector.data_type.clone())
    }

    fn nullable(&self, _: &Schema) -> Result<bool> {
        Ok(true)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        self.cancel.check().map_err(outward)?;
        let rows = batch.num_rows();
        let mut columns = Vec::with_capacity(self.inputs.len());
        for input in &self.inputs {
            columns.push(input.evaluate(batch)?.into_array(rows)?);
        }
        Ok(match self.vector.evaluate(&columns, rows).map_err(settled)? {
            Column::Array(array) => ColumnarValue::Array(array),
            Column::Scalar(array) => ColumnarValue::Scalar(ScalarValue::try_from_array(&array, 0)?),
        })
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        self.inputs.iter().collect()
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn PhysicalExpr>>,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        Ok(Arc::new(Compute { vector: self.vector.clone(), inputs: children, cancel: self.cancel.clone() }))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}
