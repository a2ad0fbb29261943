// SPDX-License-Identifier: MIT
#include "opener/records/report_page.hpp"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <map>
#include <utility>

#include "opener/audit/audit_chain.hpp"
#include "opener/base/build_config.hpp"
#include "opener/records/report_style.hpp"
#include "proto/printable.hpp"

namespace fdbroker::records {

namespace {

// ---- text ----------------------------------------------------------------------------------------------

// The two bytes behind 0xe2 of a character that changes the direction of text.
bool turns_text(std::string_view rest) {
    if (rest.size() < 3 || rest[0] != '\xe2') return false;
    const auto second = static_cast<unsigned char>(rest[1]), third = static_cast<unsigned char>(rest[2]);
    return (second == 0x80 && third >= 0xaa && third <= 0xae) ||
           (second == 0x81 && third >= 0xa6 && third <= 0xa9);
}

std::string base64(const opener::RecordHash& hash) {
    constexpr std::string_view digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    std::string text;
    for (std::size_t at = 0; at < hash.size(); at += 3) {
        unsigned bits = 0;
        for (std::size_t i = 0; i < 3; ++i) bits = bits << 8 | (at + i < hash.size() ? hash[at + i] : 0U);
        for (std::size_t i = 0; i < 4; ++i)
            text += at + i > hash.size() ? '=' : digits[bits >> (18 - 6 * i) & 63U];
    }
    return text;
}

std::string number(std::uint64_t value) {
    std::string text = std::to_string(value);
    for (std::size_t at = text.size(); at > 3;) text.insert(at -= 3, ",");
    return text;
}

// 2026-11-22 18:00:00
std::string time(std::string_view recorded) {
    std::string text(recorded.substr(0, 19));
    if (text.size() > 10) text[10] = ' ';
    return html(text);
}

std::string time_of(std::int64_t second) {
    return fmt::format("{:%Y-%m-%d %H:%M}", fmt::gmtime(static_cast<std::time_t>(second)));
}

// ---- tables --------------------------------------------------------------------------------------------

std::string number_cell(std::uint64_t value) {
    return fmt::format("<td class=\"n\" data-n=\"{}\">{}</td>", value, number(value));
}
std::string cell(std::string_view text) {
    return "<td>" + html(text) + "</td>";
}
std::string path_cell(std::string_view text) {
    return "<td class=\"p\">" + html(text) + "</td>";
}
std::string time_cell(std::string_view recorded) {
    return "<td class=\"t\">" + time(recorded) + "</td>";
}

class Table {
  public:
    // A heading of a column of numbers begins with '#'.
    Table(std::string_view id, std::string_view title, const std::vector<std::string_view>& headings)
        : id_(id), title_(title) {
        for (const std::string_view heading : headings)
            head_ += heading.starts_with('#') ? fmt::format("<th class=\"n\">{}</th>", heading.substr(1))
                                              : fmt::format("<th>{}</th>", heading);
    }
    void row(const std::string& cells, std::string_view kind = "") {
        ++rows_;
        body_ += kind.empty() ? "<tr>" : fmt::format("<tr class=\"{}\">", kind);
        body_ += cells + "</tr>\n";
    }
    void note(const std::string& text) { notes_ += "<p class=\"dim\">" + html(text) + "</p>\n"; }
    std::size_t rows() const noexcept { return rows_; }
    std::string text() const {
        std::string out =
            fmt::format("<section id=\"{}\" data-rows=\"{}\"><h2>{} <span class=\"dim shown\"></span></h2>\n",
                        id_, rows_, title_);
        out += notes_;
        if (rows_ == 0) return out + "<p class=\"dim\">none</p></section>\n";
        return out + "<div class=\"wide\"><table><thead><tr>" + head_ + "</tr></thead>\n<tbody>\n" + body_ +
               "</tbody></table></div></section>\n";
    }

  private:
    std::string id_, title_, head_{}, body_{}, notes_{};
    std::size_t rows_ = 0;
};

using Row = std::pair<RequestKind, Tally>;

// The directory of a path, for rows that stand for many files.
std::string directory_of(const std::string& path) {
    const std::size_t slash = path.rfind('/', path.find(" (a link to "));
    return slash == std::string::npos ? path : path.substr(0, slash + 1) + "...";
}

void add(Tally& to, const Tally& more) {
    to.requests += more.requests;
    if (to.first.empty() || (!more.first.empty() && more.first < to.first)) to.first = more.first;
    to.last = std::max(to.last, more.last);
}

// The most frequent kinds; the others by directory, the most frequent of these first.
std::vector<Row> rows_of(Table& table, const Frequent<RequestKind, Tally>& kinds) {
    constexpr std::size_t by_directory = max_rows / 4;
    const auto sorted = kinds.sorted();
    std::vector<Row> rows;
    std::map<RequestKind, Tally> directories;
    const std::size_t whole = sorted.size() <= max_rows ? sorted.size() : max_rows - by_directory;
    for (std::size_t i = 0; i < sorted.size(); ++i) {
        if (i < whole) {
            rows.emplace_back(*sorted[i].first, *sorted[i].second);
            continue;
        }
        RequestKind kind = *sorted[i].first;
        kind.path = directory_of(kind.path);
        add(directories[kind], *sorted[i].second);
    }
    std::vector<Row> rest(directories.begin(), directories.end());
    std::ranges::stable_sort(rest, std::ranges::greater(),
                             [](const Row& row) { return row.second.requests; });
    std::uint64_t left_out = kinds.others();
    for (std::size_t i = by_directory; i < rest.size(); ++i) left_out += rest[i].second.requests;
    rest.resize(std::min(rest.size(), by_directory));
    rows.insert(rows.end(), rest.begin(), rest.end());
    if (!rest.empty())
        table.note("Less frequent requests are told by directory: a path that ends in \"...\".");
    if (left_out != 0) table.note(fmt::format("{} rare requests are not told apart.", number(left_out)));
    return rows;
}

std::string by_rule(const RequestKind& kind) {
    if (kind.rule.empty()) return "<td class=\"dim\">none</td>";
    return fmt::format("<td title=\"{}\">{}</td>", html(kind.at), html(kind.rule));
}

std::string who(const RequestKind& kind) {
    return fmt::format("<td title=\"by the listener {}\">{}</td>", html(kind.listener), html(kind.user));
}

std::string refused_table(const Summary& summary) {
    Table table("refused", "What was refused, and why",
                {"#requests", "user", "asked for", "path", "why", "rule", "last"});
    for (const auto& [kind, tally] : rows_of(table, summary.refused))
        table.row(number_cell(tally.requests) + who(kind) + cell(kind.asked) + path_cell(kind.path) +
                  cell(kind.reason) + by_rule(kind) + time_cell(tally.last));
    return table.text();
}

std::string allowed_table(const Summary& summary) {
    Table table("allowed", "What was allowed", {"#requests", "user", "asked for", "path", "rule", "last"});
    for (const auto& [kind, tally] : rows_of(table, summary.allowed))
        table.row(number_cell(tally.requests) + who(kind) + cell(kind.asked) + path_cell(kind.path) +
                  by_rule(kind) + time_cell(tally.last));
    return table.text();
}

std::string reasons_table(const Summary& summary) {
    Table table("reasons", "Why requests were refused", {"#requests", "why", "first", "last"});
    for (const auto& [reason, tally] : summary.reasons.sorted()) {
        if (table.rows() == max_rows) break;
        table.row(number_cell(tally->requests) + cell(*reason) + time_cell(tally->first) +
                  time_cell(tally->last));
    }
    return table.text();
}

std::string users_table(const Summary& summary) {
    Table table("users", "Who asked", {"user", "listener", "#allowed", "#refused", "first", "last"});
    for (const auto& [key, both] : summary.users.sorted()) {
        if (table.rows() == max_rows) break;
        const std::string& first = both->allowed.first.empty() || (!both->refused.first.empty() &&
                                                                   both->refused.first < both->allowed.first)
                                       ? both->refused.first
                                       : both->allowed.first;
        table.row(cell(key->first) + cell(key->second) + number_cell(both->allowed.requests) +
                  number_cell(both->refused.requests) + time_cell(first) +
                  time_cell(std::max(both->allowed.last, both->refused.last)));
    }
    return table.text();
}

std::string rules_table(const ReportPage& page) {
    Table table("rules", "Rules", {"rule", "place", "#allowed", "#refused", "last used"});
    table.note(page.policy.empty()
                   ? "Which rules no record names is told where --policy says of which policy."
                   : fmt::format("{} rules of {} are named by no record; they are marked.",
                                 page.unused.size(), page.policy));
    for (const PolicyRule& rule : page.unused)
        table.row(cell(rule.name) + cell(rule.at) + number_cell(0) + number_cell(0) + cell("never"),
                  "unused");
    for (const auto& [key, both] : page.summary->rules.sorted()) {
        if (table.rows() >= max_rows) break;
        table.row(cell(key->first) + cell(key->second) + number_cell(both->allowed.requests) +
                  number_cell(both->refused.requests) +
                  time_cell(std::max(both->allowed.last, both->refused.last)));
    }
    return table.text();
}

std::string events_table(const Summary& summary) {
    Table table("events", "Other events", {"event", "#times", "first", "last", "cause of the last"});
    for (const auto& [event, told] : summary.events.sorted()) {
        if (table.rows() == max_rows) break;
        table.row(cell(*event) + number_cell(told->tally.requests) + time_cell(told->tally.first) +
                  time_cell(told->tally.last) + cell(told->cause));
    }
    return table.text();
}

// ---- the rest ------------------------------------------------------------------------------------------

std::string chart(const Timeline& timeline) {
    if (timeline.spans().empty()) return "";
    const std::int64_t begin = timeline.spans().begin()->first;
    const std::int64_t end = timeline.spans().rbegin()->first + timeline.seconds();
    std::uint64_t most = 1;
    for (const auto& [at, span] : timeline.spans()) most = std::max(most, span.allowed + span.refused);
    constexpr double height = 140;
    const std::int64_t spans = (end - begin) / timeline.seconds();
    const auto count = static_cast<double>(spans);
    std::string bars;
    for (const auto& [at, span] : timeline.spans()) {
        const std::int64_t place = (at - begin) / timeline.seconds();
        const auto x = static_cast<double>(place);
        const double refused = height * static_cast<double>(span.refused) / static_cast<double>(most);
        const double allowed = height * static_cast<double>(span.allowed) / static_cast<double>(most);
        bars += fmt::format(
            "<g><title>{}: {} allowed, {} refused</title>"
            "<rect class=\"r\" x=\"{:.2f}\" y=\"{:.2f}\" width=\"0.9\" height=\"{:.2f}\"/>"
            "<rect class=\"a\" x=\"{:.2f}\" y=\"{:.2f}\" width=\"0.9\" height=\"{:.2f}\"/></g>\n",
            time_of(at), number(span.allowed), number(span.refused), x, height - refused, refused, x,
            height - refused - allowed, allowed);
    }
    return fmt::format(
        "<section id=\"time\"><h2>Over time</h2>\n<svg viewBox=\"0 0 {:.0f} {:.0f}\" "
        "preserveAspectRatio=\"none\" role=\"img\" aria-label=\"requests over time\">\n{}</svg>\n"
        "<p class=\"axis\"><span>{}</span><span>{} minutes a bar, at most {} "
        "requests</span><span>{}</span></p>"
        "</section>\n",
        count, height, bars, time_of(begin), timeline.seconds() / 60, number(most), time_of(end));
}

std::string card(std::string_view name, std::uint64_t value, std::string_view kind = "") {
    return fmt::format("<div class=\"card {}\"><b>{}</b>{}</div>\n", kind, number(value), name);
}

std::string head() {
    return fmt::format(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'sha256-{}'; "
        "script-src 'sha256-{}'; base-uri 'none'; form-action 'none'\">\n"
        "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
        "<title>fdbroker: audit report</title>\n<style>{}</style>\n</head>\n<body>\n",
        base64(opener::hash_of(report_style)), base64(opener::hash_of(report_script)), report_style);
}

std::string beginning(const ReportPage& page) {
    const Summary& summary = *page.summary;
    const Both& total = summary.total;
    std::string files;
    for (const std::string& file : page.files) files += (files.empty() ? "" : ", ") + html(file);
    std::string first = total.allowed.first;
    if (first.empty() || (!total.refused.first.empty() && total.refused.first < first))
        first = total.refused.first;
    std::string text = fmt::format(
        "<h1>Audit report</h1>\n<p class=\"dim\">{} to {} (UTC), from {}; fdbroker {}</p>\n", time(first),
        time(std::max(total.allowed.last, total.refused.last)), files, FDBROKER_VERSION);
    if (page.malformed != 0)
        text += fmt::format("<p class=\"refused\">{} lines are no records, the first in {}.</p>\n",
                            number(page.malformed), html(page.first_malformed));
    text += "<div class=\"cards\">\n" + card("requests", total.requests()) +
            card("allowed", total.allowed.requests, "allowed") +
            card("refused", total.refused.requests, "refused") +
            card("users and listeners", summary.users.size()) + card("rules used", summary.rules.size());
    if (!page.policy.empty()) text += card("rules never used", page.unused.size());
    return text + card("records", summary.records) + "</div>\n";
}

}  // namespace

std::string html(std::string_view text) {
    const std::string shown = proto::printable(text, proto::LineFeeds::escaped);
    std::string out;
    for (std::size_t at = 0; at < shown.size(); ++at) {
        switch (shown[at]) {
            case '&':
                out += "&amp;";
                break;
            case '<':
                out += "&lt;";
                break;
            case '>':
                out += "&gt;";
                break;
            case '"':
                out += "&quot;";
                break;
            case '\'':
                out += "&#39;";
                break;
            default:
                if (!turns_text(std::string_view(shown).substr(at))) {
                    out += shown[at];
                    break;
                }
                out += fmt::format("\\u{:04x}", 0x2000U |
                                                    (static_cast<unsigned char>(shown[at + 1]) & 0x3fU) << 6 |
                                                    (static_cast<unsigned char>(shown[at + 2]) & 0x3fU));
                at += 2;
        }
    }
    return out;
}

std::string to_html(const ReportPage& page) {
    const Summary& summary = *page.summary;
    std::string text = head() + beginning(page) + chart(summary.timeline);
    text +=
        "<div id=\"bar\" hidden><input id=\"filter\" type=\"search\" placeholder=\"filter: words that a row "
        "must "
        "have\" aria-label=\"filter\"></div>\n";
    text += refused_table(summary) + reasons_table(summary) + users_table(summary) + rules_table(page) +
            allowed_table(summary) + events_table(summary);
    return text + fmt::format("<script>{}</script>\n</body>\n</html>\n", report_script);
}

}  // namespace fdbroker::records
