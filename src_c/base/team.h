/* A team: a few threads that share one piece of work and meet in the middle of it. Without threads on this platform every
 * team has one member. */
#ifndef GI_TEAM_H
#define GI_TEAM_H
#include "../gateinfer.h"

/* `member` is 0 for the caller, else 1 .. members - 1. */
typedef void gi_team_work(void *arg, gi_team *team, int member, int members);

/* Runs work on every member and returns when all are done. Returns 0, and nothing has run, when the team has one member or is
 * at work for somebody else: the caller does it alone then. Workers start at the first call, and anew after a fork. */
int gi_team_run(gi_team *team, gi_team_work *work, void *arg);
/* Inside work: returns once every member is here. */
void gi_team_meet(gi_team *team);

/* The share of `member` in `count` items taken `unit` at a time: from *first, returns how many. */
static inline int64_t gi_team_share(int64_t count, int64_t unit, int member, int members, int64_t *first) {
    const int64_t units = (count + unit - 1) / unit;
    const int64_t from = units * member / members * unit, to = units * (member + 1) / members * unit;
    *first = from;
    return (to < count ? to : count) - from;
}

#endif
