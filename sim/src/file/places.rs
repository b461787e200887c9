//! How far the large clouds' regions are from each other.
//!
//! Round-trip times between metropolitan areas, rounded, as the public latency dashboards of the clouds and of third
//! parties (medians over weeks, cloudping and the like) have shown them for years. Regions of different clouds in one
//! area stand on the same fibres, so that one table serves all; expect ±20 %. Who has measured their own says it in
//! `[[link]]`.
//!
//! Must never: be taken for a measurement of anybody's network.

/// Areas of which the table knows, in its order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Area(usize);

/// Round-trip times in milliseconds: each line to those before it.
const RTT_MS: [&[u64]; 16] = [
    &[],                                                                         // Virginia
    &[13],                                                                       // Ohio
    &[62, 52],                                                                   // California
    &[68, 50, 22],                                                               // Oregon
    &[15, 25, 78, 62],                                                           // Montreal
    &[115, 125, 175, 177, 125],                                                  // São Paulo
    &[68, 78, 130, 122, 68, 178],                                                // Dublin
    &[76, 86, 138, 130, 76, 186, 11],                                            // London
    &[82, 92, 142, 138, 84, 195, 18, 9],                                         // Paris
    &[91, 100, 150, 142, 92, 203, 25, 15, 10],                                   // Frankfurt
    &[110, 118, 170, 160, 105, 218, 40, 30, 30, 22],                             // Stockholm
    &[195, 202, 230, 220, 190, 300, 125, 115, 108, 122, 140],                    // Mumbai
    &[220, 208, 170, 162, 215, 325, 178, 170, 160, 160, 180, 60],                // Singapore
    &[148, 134, 108, 98, 145, 255, 202, 210, 218, 225, 245, 125, 70],            // Tokyo
    &[175, 160, 135, 125, 172, 285, 228, 235, 242, 230, 250, 128, 75, 35],       // Seoul
    &[200, 190, 140, 140, 198, 310, 255, 264, 280, 250, 270, 150, 92, 110, 145], // Sydney
];

/// Regions by cloud, each list in the table's order; an empty name is an area where the cloud has none.
const CLOUDS: [(&str, [&str; 16]); 3] = [
    (
        "aws",
        [
            "us-east-1",
            "us-east-2",
            "us-west-1",
            "us-west-2",
            "ca-central-1",
            "sa-east-1",
            "eu-west-1",
            "eu-west-2",
            "eu-west-3",
            "eu-central-1",
            "eu-north-1",
            "ap-south-1",
            "ap-southeast-1",
            "ap-northeast-1",
            "ap-northeast-2",
            "ap-southeast-2",
        ],
    ),
    (
        "gcp",
        [
            "us-east4",
            "us-east5",
            "us-west2",
            "us-west1",
            "northamerica-northeast1",
            "southamerica-east1",
            "",
            "europe-west2",
            "europe-west9",
            "europe-west3",
            "europe-north2",
            "asia-south1",
            "asia-southeast1",
            "asia-northeast1",
            "asia-northeast3",
            "australia-southeast1",
        ],
    ),
    (
        "azure",
        [
            "eastus",
            "",
            "westus",
            "westus2",
            "canadaeast",
            "brazilsouth",
            "northeurope",
            "uksouth",
            "francecentral",
            "germanywestcentral",
            "swedencentral",
            "centralindia",
            "southeastasia",
            "japaneast",
            "koreacentral",
            "australiaeast",
        ],
    ),
];

/// Round trip within one area, milliseconds.
const NEAR_RTT_MS: u64 = 1;

/// The area of `cloud:region`.
pub(super) fn area(place: &str) -> Option<Area> {
    let (cloud, region) = place.split_once(':')?;
    let (_, regions) = CLOUDS.iter().find(|(name, _)| *name == cloud)?;
    regions.iter().position(|name| !name.is_empty() && *name == region).map(Area)
}

/// All places there are, for people.
pub(super) fn known() -> String {
    let of_cloud = |(cloud, regions): &(&str, [&str; 16])| {
        let named = regions.iter().filter(|name| !name.is_empty());
        named.map(|name| format!("{cloud}:{name}")).collect::<Vec<_>>().join(", ")
    };
    CLOUDS.iter().map(of_cloud).collect::<Vec<_>>().join(", ")
}

/// One way between two areas, microseconds: half of the round trip.
pub(super) fn one_way_us(a: Area, b: Area) -> u64 {
    let (far, near) = (a.0.max(b.0), a.0.min(b.0));
    RTT_MS[far].get(near).copied().unwrap_or(NEAR_RTT_MS) * 500
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_a_triangle_and_every_place_is_found() {
        for (line, times) in RTT_MS.iter().enumerate() {
            assert_eq!(times.len(), line);
        }
        for place in known().split(", ") {
            assert!(area(place).is_some(), "{place}");
        }
        assert_eq!(area("aws:eu-west-1"), area("azure:northeurope"));
        assert!(["aws:", "gcp:", "eu-west-1", "ibm:eu-de", "aws:mars-1"].iter().all(|no| area(no).is_none()));
    }

    #[test]
    fn distances_are_the_same_both_ways_and_no_detour_is_half_as_long() {
        let all = || (0..RTT_MS.len()).map(Area);
        for (a, b) in all().flat_map(|a| all().map(move |b| (a, b))) {
            assert_eq!(one_way_us(a, b), one_way_us(b, a));
            // A typing error of a digit would show as a route through a third place that is far shorter.
            let detour_us = all().map(|c| one_way_us(a, c) + one_way_us(c, b)).min().expect("areas");
            assert!(detour_us * 2 > one_way_us(a, b), "{a:?} {b:?}");
        }
        assert_eq!(one_way_us(Area(0), Area(0)), 500);
    }
}
