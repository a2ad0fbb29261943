// SPDX-License-Identifier: MIT
// Real programs under `worker run`: the same output and status as outside when all they need is granted.
#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "tests/integration/run_fixture.hpp"

using namespace fdbroker;
using namespace fdbroker::test;

namespace {

struct Row {
    const char* needs;   // a program without which the row is left out
    std::string script;  // for sh(1), run in a directory with the files of prepare()
};

const std::vector<Row> rows{
    {"cat", "cat a/one a/two"},
    {"ls", "ls -ln a; ls -lnR . | wc -l"},
    {"find", "find . -name '*.txt' | sort; find a -type f -size +0 | sort"},
    {"grep", "grep -rn three . | sort; grep -c one a/one"},
    {"tar", "tar cf t.tar a && mkdir x && tar xf t.tar -C x && tar tf t.tar | sort && cat x/a/one"},
    {"cp", "cp -r a b && cp -p a/one c && cmp a/one c && diff -r a b && echo same"},
    {"cp",
     "ln -s one a/l; ln -s /nowhere a/away; touch -hd 2001-02-03T04:05:06Z a/l a/away; cp -a a b; tar cf "
     "t.tar a; "
     "mkdir x; tar xf t.tar -C x; stat -c '%N %Y' a/l b/l x/a/l a/away b/away x/a/away"},
    {"rsync", "ln -s one a/l; touch -hd 2001-02-03T04:05:06Z a/l; rsync -a a/ r/; stat -c '%N %Y' a/l r/l"},
    {"mv", "mv a/one a/three && ls a && mv a z && ls z"},
    {"rm", "rm -r a && ls"},
    {"mkdir", "mkdir -p p/q/r && mkdir -p \"$PWD/p/q/s\" && ls p/q"},
    {"sort", "sort -r a/lines.txt; sort -u a/lines.txt | wc -l"},
    {"diff", "diff a/one a/two; echo $?"},
    {"sed", "sed -i s/one/ONE/ a/one && cat a/one"},
    {"awk", "awk '{ n += NF } END { print n }' a/lines.txt"},
    {"gzip", "gzip -kn a/lines.txt && gzip -dc a/lines.txt.gz && gzip -t a/lines.txt.gz"},
    {"rsync", "rsync -a a/ r/ && ls r && rsync -a --delete a/sub/ r/ && ls r"},
    {"sqlite3",
     "sqlite3 d.db 'create table t(a); insert into t values(1); select * from t; pragma journal_mode=wal; "
     "insert into t "
     "values(2); select count(*) from t'"},
    {"git",
     "export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b "
     "GIT_AUTHOR_DATE=2000-01-01T00:00:00Z GIT_COMMITTER_DATE=2000-01-01T00:00:00Z; git init -q -b main . && "
     "git add a && "
     "git commit -qm first && git status --short && git log --format=%H%s && git clone -q . ../work/clone && "
     "ls clone && "
     "git -C clone status --short"},
    {"python3",
     "printf 'import json, os, sys\\nprint(json.dumps(sorted(os.listdir(\"a\"))), "
     "open(\"a/one\").read())\\n' > s.py && "
     "python3 s.py"},
    {"perl", "perl -ne 'print if /t/' a/lines.txt"},
    {"node", "node -e 'console.log(require(\"fs\").readdirSync(\"a\").sort().join())'"},
    {"javac",
     "printf 'class R { public static void main(String[] a) throws Exception { "
     "System.out.print(java.nio.file.Files.readString(java.nio.file.Path.of(a[0]))); } }' > R.java && javac "
     "R.java && "
     "java -cp . R a/one"},
    {"java", "java -version 2>&1 | wc -l"},
    {"gcc",
     "printf '#include <stdio.h>\\nint main(void) { puts(\"built\"); }\\n' > h.c && TMPDIR=$PWD gcc -o h h.c "
     "&& ./h && "
     "TMPDIR=$PWD gcc -static -o s h.c && ./s"},
    // Since 4.4 it would make a FIFO, and say that it may not.
    {"make",
     "printf 'all: x y\\n\\t@cat x y\\nx y:\\n\\t@echo $@ > $@\\n' > Makefile && "
     "make -s -j2 $(make --help | sed -n 's/.*\\(--jobserver-style=\\).*/\\1pipe/p')"},
    {"convert",
     "convert -size 8x8 xc:red i.png && test -s i.png && convert i.png -resize 4x4 j.png && test -s j.png && "
     "echo yes"},
    {"pdftotext", "pdftotext missing.pdf; echo $?"},
    {"ffprobe", "ffprobe -v error a/one; echo $?"},
    {"busybox", "busybox ls -1 a; busybox cat a/one"},
    {"bash", "bash -c 'cat <(cat a/one) && cat /dev/fd/3 3<a/two'"},
    {"vim", "vim -u NONE -es -c 's/one/two/' -c wq a/one; cat a/one"},
    {"less", "less a/one | cat"},
    {"xargs", "find a -type f | sort | xargs wc -c"},
    {"touch", "touch -d 2000-01-01T00:00:00Z a/one n && stat -c %Y a/one n"},
    {"dd", "dd if=a/lines.txt of=o bs=4 count=2 conv=fsync 2>/dev/null; cat o; truncate -s 3 o; cat o"},
    {"install", "install -m 750 a/one i && stat -c %a i"},
    {"ln", "ln -s a/one l && cat l && readlink l && readlink -f l | xargs basename"},
};

bool is_there(const std::string& program) {
    return std::ranges::any_of(std::vector<std::string>{"/usr/local/bin/", "/usr/bin/", "/bin/"},
                               [&](const std::string& at) { return std::filesystem::exists(at + program); });
}

void prepare(const RunScene& scene) {
    scene.clear();
    const FileAttributes directory{.mode = 0755, .uid = nobody, .gid = nobody};
    make_directory(scene.work() + "/a", directory);
    make_directory(scene.work() + "/a/sub", directory);
    scene.write("a/one", "one\n");
    scene.write("a/two", "two\n");
    scene.write("a/lines.txt", "three\none two\nthree\nfour five six\n");
    scene.write("a/sub/deep.txt", "three deep\n");
}

}  // namespace

TEST_CASE("run: real programs do what they do outside") {
    FDBROKER_SKIP_UNLESS(why_no_run().empty(), why_no_run());
    const RunScene scene;
    unsigned tried = 0;
    for (const Row& row : rows) {
        if (!is_there(row.needs)) continue;
        ++tried;
        CAPTURE(row.script);
        prepare(scene);
        const Outcome outside = run(scene.outside({"sh", "-c", row.script}));
        prepare(scene);
        const Outcome inside = scene.run_inside({"sh", "-c", row.script});
        CHECK(inside.status == outside.status);
        CHECK(inside.out == outside.out);
        CHECK(inside.err == outside.err);
    }
    CHECK(tried > 20);
}

TEST_CASE("run: a program that is granted too little fails, and does not hang") {
    FDBROKER_SKIP_UNLESS(why_no_run().empty(), why_no_run());
    const RunScene scene;
    for (const std::string program :
         {"cat", "ls", "sort", "wc", "tar cf -", "gzip -c", "git -C", "python3", "perl"}) {
        CAPTURE(program);
        const Outcome refused = scene.shell(program + " " + scene.denied() + "/file");
        CHECK(refused.status != 0);
        CHECK(refused.out.find("denied content") == std::string::npos);
    }
}
