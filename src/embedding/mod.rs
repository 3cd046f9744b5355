//! placeholder
mod select;
pub use select::{Region, Selected, image_count, select};
