use super::{
    Action, Condition, Filter, Rule,
    program::{
        JUMP_EQUAL, LOAD_WORD, NATIVE_ARCHITECTURE, OFFSET_ARCHITECTURE, RETURN,
        RETURN_KILL_PROCESS, X32_FIRST,
    },
};

fn call(filter: &Filter, number: u32, first: u64) -> Action {
    let arguments = [first, 0, 0, 0, 0, 0];
    filter.answer(number, arguments).expect("it returns").action
}

const fn rule(number: u32, condition: Condition, action: Action) -> Rule {
    Rule {
        number,
        condition,
        action,
    }
}

#[test]
fn rules_mean_what_they_say() {
    let filter = Filter::assemble(
        &[
            rule(10, Condition::Always, Action::Fail(1)),
            rule(
                11,
                Condition::AnyBit {
                    index: 0,
                    mask: 0b110,
                },
                Action::Fail(2),
            ),
            rule(11, Condition::Always, Action::Notify),
            rule(12, Condition::one_of(0, vec![5, 7]), Action::Fail(3)),
            rule(12, Condition::Always, Action::Allow),
            rule(
                13,
                Condition::NoneOf {
                    index: 0,
                    values: vec![1, 2],
                },
                Action::Fail(4),
            ),
            rule(13, Condition::Always, Action::Kill),
            rule(14, Condition::Always, Action::Fail(5)),
        ],
        Action::Fail(9),
    )
    .unwrap();
    assert_eq!(call(&filter, 9, 0), Action::Fail(9));
    assert_eq!(call(&filter, 15, 0), Action::Fail(9));
    assert_eq!(call(&filter, 10, 0), Action::Fail(1));
    assert_eq!(call(&filter, 11, 2), Action::Fail(2));
    assert_eq!(call(&filter, 11, 1), Action::Notify);
    for (value, expected) in [
        (5, Action::Fail(3)),
        (7, Action::Fail(3)),
        (6, Action::Allow),
    ] {
        assert_eq!(call(&filter, 12, value), expected, "{value}");
    }
    for (value, expected) in [(1, Action::Kill), (2, Action::Kill), (3, Action::Fail(4))] {
        assert_eq!(call(&filter, 13, value), expected, "{value}");
    }
    assert_eq!(call(&filter, 14, 0), Action::Fail(5));
    // Only the lower half of an argument counts, because the kernel's own ioctl and open see only
    // that.
    assert_eq!(call(&filter, 12, 0xFFFF_FFFF_0000_0005), Action::Fail(3));
}

#[test]
fn other_entries_are_closed() {
    let filter = Filter::assemble(&[], Action::Allow).unwrap();
    assert_eq!(call(&filter, 1, 0), Action::Allow);
    // Every program begins with these instructions, whatever its rules are.
    let begin: Vec<_> = filter.0.iter().take(3).map(|op| (op.code, op.k)).collect();
    let expected = [
        (LOAD_WORD, OFFSET_ARCHITECTURE),
        (JUMP_EQUAL, NATIVE_ARCHITECTURE),
        (RETURN, RETURN_KILL_PROCESS),
    ];
    assert_eq!(begin, expected);
    let skip = filter.0.get(1).map(|op| (op.jt, op.jf));
    assert_eq!(skip, Some((1, 0)));
    for number in [X32_FIRST, X32_FIRST + 59, u32::MAX] {
        assert_eq!(call(&filter, number, 0), Action::not_implemented());
    }
}

/// The kernel keeps a bitmap of the calls that are always allowed, and runs no filter for them. It
/// finds them by running the filter without arguments (seccomp_is_const_allow).
#[test]
fn what_does_not_depend_on_arguments_is_answered_without_them() {
    let rules: Vec<Rule> = (0..450)
        .map(|number| {
            let condition = match number % 50 {
                7 => Condition::one_of(1, (0..100).map(|value| value * 3).collect()),
                _ => Condition::Always,
            };
            let action = match number % 9 {
                3 => Action::Fail(1),
                _ => Action::Allow,
            };
            rule(number, condition, action)
        })
        .collect();
    let filter = Filter::assemble(&rules, Action::not_implemented()).unwrap();
    for number in 0..500 {
        let ran = filter.answer(number, [0; 6]).expect("it returns");
        let depends = number % 50 == 7 && number < 450;
        assert_eq!(ran.looked_at_arguments, depends, "{number}");
        assert!(
            ran.instructions <= if depends { 25 } else { 14 },
            "{number} takes {}",
            ran.instructions
        );
    }
}

/// A generator of numbers that need not be unpredictable (xorshift).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        u32::try_from(self.0 >> 32).unwrap()
    }

    fn below(&mut self, end: u32) -> u32 {
        self.next() % end
    }

    /// A number of the size of flags, of requests, or of the largest.
    fn value(&mut self) -> u32 {
        match self.below(4) {
            0 => self.below(8),
            1 => 0x5400 + self.below(16),
            2 => u32::MAX - self.below(3),
            _ => self.next(),
        }
    }

    fn values(&mut self) -> Vec<u32> {
        let count = match self.below(8) {
            0 => 120,
            few => few,
        };
        (0..count).map(|_| self.value()).collect()
    }

    fn condition(&mut self, deep: bool) -> Condition {
        let index = u8::try_from(self.below(6)).unwrap();
        match self.below(if deep { 6 } else { 5 }) {
            0 => Condition::Always,
            1 => Condition::AnyBit {
                index,
                mask: self.value(),
            },
            2 => Condition::OneOf {
                index,
                mask: [u32::MAX, 0xF, 0xFF00][self.below(3) as usize],
                values: self.values(),
            },
            3 => Condition::NoneOf {
                index,
                values: self.values(),
            },
            4 => Condition::AnyUpperBit {
                index,
                mask: self.value(),
            },
            _ => Condition::All((0..self.below(4)).map(|_| self.condition(false)).collect()),
        }
    }

    fn action(&mut self) -> Action {
        match self.below(4) {
            0 => Action::Allow,
            1 => Action::Notify,
            2 => Action::Kill,
            _ => Action::Fail(u16::try_from(self.below(130)).unwrap()),
        }
    }
}

/// Applies the rules directly, one by one.
fn applies(condition: &Condition, arguments: [u64; 6]) -> bool {
    let argument = |index: u8| u32::try_from(arguments[usize::from(index)] & 0xFFFF_FFFF).unwrap();
    match condition {
        Condition::Always => true,
        Condition::AnyBit { index, mask } => argument(*index) & mask != 0,
        Condition::AnyUpperBit { index, mask } => {
            arguments[usize::from(*index)] >> 32 & u64::from(*mask) != 0
        }
        Condition::OneOf {
            index,
            mask,
            values,
        } => values.contains(&(argument(*index) & mask)),
        Condition::NoneOf { index, values } => !values.contains(&argument(*index)),
        Condition::All(all) => all.iter().all(|one| applies(one, arguments)),
    }
}

#[test]
fn programs_agree_with_the_rules_read_one_by_one() {
    let mut numbers = Numbers(0x5EED_0000_0001);
    for round in 0..60 {
        let rules: Vec<Rule> = (0..numbers.below(60))
            .map(|_| rule(numbers.below(64), numbers.condition(true), numbers.action()))
            .collect();
        let otherwise = numbers.action();
        let Ok(filter) = Filter::assemble(&rules, otherwise) else {
            panic!("round {round} is too long");
        };
        // Many values come from the rules themselves, because chance would seldom hit them.
        let known: Vec<u32> = rules
            .iter()
            .flat_map(|rule| match &rule.condition {
                Condition::OneOf { values, .. } | Condition::NoneOf { values, .. } => {
                    values.clone()
                }
                Condition::AnyBit { mask, .. } => vec![*mask],
                Condition::Always | Condition::AnyUpperBit { .. } | Condition::All(_) => Vec::new(),
            })
            .collect();
        for _ in 0..2_000 {
            let number = numbers.below(70);
            let arguments = std::array::from_fn(|_| {
                let upper = u64::from(numbers.value()) << 32;
                let at = numbers.next() as usize;
                let value = match known.get(at % (known.len() + 8)) {
                    Some(value) => *value,
                    None => numbers.value(),
                };
                upper | u64::from(value)
            });
            let expected = rules
                .iter()
                .find(|rule| rule.number == number && applies(&rule.condition, arguments))
                .map_or(otherwise, |rule| rule.action);
            let ran = filter.answer(number, arguments).expect("it returns");
            assert_eq!(
                ran.action, expected,
                "round {round}: {number} {arguments:?}"
            );
        }
    }
}

#[test]
fn a_program_that_the_kernel_would_not_take_is_refused() {
    let many = |number| Condition::one_of(number, (0..100).map(|value| value * 2).collect());
    let rules: Vec<Rule> = (0..60)
        .map(|number| rule(number, many(0), Action::Fail(1)))
        .collect();
    Filter::assemble(&rules, Action::Allow).unwrap_err();
}
