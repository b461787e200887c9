//! What goes wrong in a drawn run: which kinds of fault it has, and how bad its weather is.
//!
//! Most kinds are left out of most runs, and some runs have none: what shows only in peace is looked for, too.
//!
//! Must never: draw in another order than before; a seed's run would be another one.

use super::{Menu, Weather};
use crate::network::Spread;
use crate::random::Dice;

/// Which kinds of fault a run has.
pub(super) fn menu(dice: &mut Dice) -> Menu {
    if dice.chance(80) {
        return Menu::default(); // A healthy run: nothing may go wrong in it either.
    }
    Menu {
        partitions: dice.chance(700),
        one_way: dice.chance(350),
        resets: dice.chance(350),
        crashes: dice.chance(450),
        power: dice.chance(350),
        disk_loss: dice.chance(80),
        steps: dice.chance(500),
        beyond: dice.chance(120),
        rough: dice.chance(400),
        slow_disks: dice.chance(300),
        ..Menu::default()
    }
}

/// What else happens to disks: drawn last, so that the rest of a seed's run was what it is before there
/// were these.
pub(super) fn disk_menu(menu: Menu, dice: &mut Dice) -> Menu {
    if menu == Menu::default() {
        return menu;
    }
    Menu {
        fuses: dice.chance(350),
        disk_errors: dice.chance(200),
        full_disks: dice.chance(200),
        stalls: dice.chance(150),
        rot: dice.chance(250) && !menu.disk_loss,
        ..menu
    }
}

/// How bad the network is.
pub(super) fn weather(menu: Menu, dice: &mut Dice) -> Weather {
    let delay_us = *dice.pick(&[300, 2_000, 10_000, 40_000, 90_000]);
    let calm = Weather::calm(delay_us, Spread::Heavy);
    if !menu.rough {
        return calm;
    }
    Weather {
        loss: dice.below(20),
        duplicate: dice.below(60),
        reorder: dice.below(120),
        replay: dice.below(400),
        ..calm
    }
}
