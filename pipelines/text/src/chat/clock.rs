//! The time that a template may ask for with `strftime_now`, and Python's strftime. Apart because pipelines read no clock: they are
//! handed one.

use std::fmt::Write as _;
use std::sync::Arc;

/// Tells the time. The worker hands in the real one; tests hand in a frozen one.
pub type Clock = Arc<dyn Fn() -> CivilTime + Send + Sync>;

const DAYS: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// A moment as a wall clock shows it. Whose wall is up to who hands in the [`Clock`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CivilTime {
    /// Days since 1970-01-01, and seconds since midnight; the rest follows from these.
    days: i64,
    seconds: u32,
}

impl CivilTime {
    /// The moment so many seconds after 1970-01-01T00:00:00. For a zone other than UTC, add its offset first.
    pub fn from_unix_seconds(seconds: i64) -> Self {
        Self {
            days: seconds.div_euclid(86_400),
            seconds: u32::try_from(seconds.rem_euclid(86_400)).unwrap_or(0),
        }
    }

    /// Year, month 1–12 and day 1–31 (Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`).
    fn date(self) -> (i64, i64, i64) {
        let z = self.days + 719_468;
        let era = z.div_euclid(146_097);
        let day_of_era = z.rem_euclid(146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
        let month = (month_from_march + 2) % 12 + 1;
        (year_of_era + era * 400 + i64::from(month <= 2), month, day)
    }

    fn day_of_year(self) -> i64 {
        let (year, _, _) = self.date();
        self.days - first_of_january(year) + 1
    }

    /// 0 is Sunday.
    fn weekday(self) -> i64 {
        (self.days + 4).rem_euclid(7)
    }

    /// Year and week as ISO 8601 counts them.
    fn iso_week(self) -> (i64, i64) {
        let from_monday = (self.weekday() + 6) % 7;
        let thursday = Self {
            days: self.days - from_monday + 3,
            ..self
        };
        (thursday.date().0, (thursday.day_of_year() - 1) / 7 + 1)
    }

    /// As Python's `datetime.strftime` in the C locale writes it. What is no directive stays as it is.
    pub fn strftime(self, format: &str) -> String {
        let mut out = String::new();
        let mut rest = format.chars();
        while let Some(character) = rest.next() {
            if character != '%' {
                out.push(character);
                continue;
            }
            // glibc's `%-d`: without padding.
            let mut after = rest.clone();
            let bare = after.as_str().starts_with('-');
            if bare {
                after.next();
            }
            match after.next().and_then(|directive| self.directive(directive)) {
                Some(text) if bare => {
                    let short = text.trim_start_matches(['0', ' ']);
                    out.push_str(if short.is_empty() { "0" } else { short });
                    rest = after;
                }
                Some(text) => {
                    out.push_str(&text);
                    rest = after;
                }
                None => out.push('%'),
            }
        }
        out
    }

    fn directive(self, directive: char) -> Option<String> {
        let (year, month, day) = self.date();
        let (hour, minute, second) = (
            self.seconds / 3600,
            self.seconds / 60 % 60,
            self.seconds % 60,
        );
        let day_name = DAYS.get(usize::try_from(self.weekday()).ok()?)?;
        let month_name = MONTHS.get(usize::try_from(month - 1).ok()?)?;
        let short = |name: &str| name.chars().take(3).collect::<String>();
        let twelve = (hour + 11) % 12 + 1;
        let mut out = String::new();
        let written = match directive {
            'a' => write!(out, "{}", short(day_name)),
            'A' => write!(out, "{day_name}"),
            'b' | 'h' => write!(out, "{}", short(month_name)),
            'B' => write!(out, "{month_name}"),
            'c' => write!(
                out,
                "{} {} {day:2} {hour:02}:{minute:02}:{second:02} {year}",
                short(day_name),
                short(month_name)
            ),
            'C' => write!(out, "{:02}", year / 100),
            'd' => write!(out, "{day:02}"),
            'D' | 'x' => write!(out, "{month:02}/{day:02}/{:02}", year.rem_euclid(100)),
            'e' => write!(out, "{day:2}"),
            'f' => write!(out, "000000"),
            'F' => write!(out, "{year}-{month:02}-{day:02}"),
            'G' => write!(out, "{}", self.iso_week().0),
            'H' => write!(out, "{hour:02}"),
            'I' => write!(out, "{twelve:02}"),
            'j' => write!(out, "{:03}", self.day_of_year()),
            'k' => write!(out, "{hour:2}"),
            'l' => write!(out, "{twelve:2}"),
            'm' => write!(out, "{month:02}"),
            'M' => write!(out, "{minute:02}"),
            'n' => out.write_char('\n'),
            'p' => write!(out, "{}", if hour < 12 { "AM" } else { "PM" }),
            'P' => write!(out, "{}", if hour < 12 { "am" } else { "pm" }),
            'r' => write!(
                out,
                "{twelve:02}:{minute:02}:{second:02} {}",
                if hour < 12 { "AM" } else { "PM" }
            ),
            'R' => write!(out, "{hour:02}:{minute:02}"),
            's' => write!(out, "{}", self.days * 86_400 + i64::from(self.seconds)),
            'S' => write!(out, "{second:02}"),
            't' => out.write_char('\t'),
            'T' | 'X' => write!(out, "{hour:02}:{minute:02}:{second:02}"),
            'u' => write!(out, "{}", (self.weekday() + 6) % 7 + 1),
            'U' => write!(out, "{:02}", (self.day_of_year() + 6 - self.weekday()) / 7),
            'V' => write!(out, "{:02}", self.iso_week().1),
            'w' => write!(out, "{}", self.weekday()),
            'W' => write!(
                out,
                "{:02}",
                (self.day_of_year() + 6 - (self.weekday() + 6) % 7) / 7
            ),
            'y' => write!(out, "{:02}", year.rem_euclid(100)),
            'Y' => write!(out, "{year}"),
            // Python's datetime.now() has no zone.
            'z' | 'Z' => Ok(()),
            '%' => write!(out, "%"),
            _ => return None,
        };
        written.ok().map(|()| out)
    }
}

/// Days from 1970-01-01 to the first of January.
fn first_of_january(year: i64) -> i64 {
    let before = year - 1;
    before * 365 + before.div_euclid(4) - before.div_euclid(100) + before.div_euclid(400) - 719_162
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The right-hand sides are what CPython 3.11 printed.
    #[test]
    fn strftime_writes_what_python_writes() {
        let all = "%a %A %b %B|%c|%d %D %e|%F|%G-%V-%u|%H %I %j %k %l|%m %M %p|%r|%R %S %T|%U %w %W %x %X %y %Y %%|%-d %-m %-I|%q";
        let at = |seconds| CivilTime::from_unix_seconds(seconds).strftime(all);
        assert_eq!(
            at(1_722_006_245),
            "Fri Friday Jul July|Fri Jul 26 15:04:05 2024|26 07/26/24 26|2024-07-26|2024-30-5|15 03 208 15  3|07 04 PM|03:04:05 PM|15:04 05 15:04:05|29 5 30 07/26/24 15:04:05 24 2024 %|26 7 3|%q"
        );
        assert_eq!(
            at(951_782_400),
            "Tue Tuesday Feb February|Tue Feb 29 00:00:00 2000|29 02/29/00 29|2000-02-29|2000-09-2|00 12 060  0 12|02 00 AM|12:00:00 AM|00:00 00 00:00:00|09 2 09 02/29/00 00:00:00 00 2000 %|29 2 12|%q"
        );
        assert_eq!(
            at(1_104_537_599),
            "Fri Friday Dec December|Fri Dec 31 23:59:59 2004|31 12/31/04 31|2004-12-31|2004-53-5|23 11 366 23 11|12 59 PM|11:59:59 PM|23:59 59 23:59:59|52 5 52 12/31/04 23:59:59 04 2004 %|31 12 11|%q"
        );
    }
}
