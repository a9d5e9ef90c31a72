//! The engine keeps the contract.

mod contract;

#[test]
fn the_engine_keeps_the_contract() {
    contract::keeps::<engine::Engine>();
}
