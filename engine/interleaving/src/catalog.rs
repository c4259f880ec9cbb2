//! In the place of the engine's catalog, of which the log knows only that changes to it have a form in JSON.

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Change;
