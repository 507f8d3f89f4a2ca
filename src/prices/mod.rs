//! Prices and costs: rates per token, and the amount that a request's usage costs. It must never pass through a
//! floating-point number, nor count an unknown price as zero.

mod catalog;
mod money;
mod price;
#[cfg(test)]
mod tests;

pub use catalog::{CATALOG, Catalog};
pub use money::{Cost, Rate};
pub use price::{ModelPrice, Period, Price, Rates, Tier};
