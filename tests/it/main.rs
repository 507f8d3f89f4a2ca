//! The one integration binary: every suite is a module here, and nothing else is.

#[cfg(test)]
mod encoders;
#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod recorded;
#[cfg(test)]
mod refusals;
#[cfg(test)]
mod relaying;
#[cfg(test)]
mod support;
#[cfg(test)]
mod tidy;
