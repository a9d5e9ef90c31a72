//! Stalker keeps the contract.

#[path = "../../engine/tests/contract/mod.rs"]
mod contract;

#[test]
fn stalker_keeps_the_contract() {
    contract::keeps::<gum_tracer::Gum>();
}
