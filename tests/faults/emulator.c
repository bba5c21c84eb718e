/* A bad network between two good ones: every packet that is routed into a TUN device comes out of it
 * again, late, twice, out of order or never.
 *
 *   emulator TUN [name=value ...]
 *
 *   delay      milliseconds each way
 *   jitter     +- milliseconds, evenly spread; packets stay in order
 *   loss       per cent, each packet by itself, both ways
 *   duplicate  per cent that come twice
 *   reorder    per cent that overtake: they skip the delay
 *   rate       MB/s each way; 0 is unlimited
 *   queue      milliseconds that may wait for the rate; what finds it full is dropped
 *   longest    bytes; longer UDP packets vanish, without the ICMP that should say so
 *   seed       of the dice: the same packets meet the same fate
 *
 * The direction is the parity of the third octet of the destination (10.77.1.0 and 10.77.2.0).
 * On SIGTERM it prints what became of the packets, as JSON.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

enum { DELAY, JITTER, LOSS, DUPLICATE, REORDER, RATE, QUEUE, LONGEST, SEED, KNOBS };
static const char *names[KNOBS] = {"delay", "jitter", "loss", "duplicate", "reorder",
                                   "rate", "queue", "longest", "seed"};
static double knob[KNOBS] = {[QUEUE] = 200, [SEED] = 1};

struct packet {
    int64_t due;
    uint64_t number;
    int length;
    unsigned char *bytes;
};
static struct packet *heap; /* the earliest first; of equals, the first that came */
static size_t held, room;

static int before(struct packet a, struct packet b) {
    return a.due < b.due || (a.due == b.due && a.number < b.number);
}

static void push(struct packet one) {
    if (held == room && !(heap = realloc(heap, (room = room ? 2 * room : 1024) * sizeof *heap)))
        exit(3);
    size_t at = held++;
    for (; at && before(one, heap[(at - 1) / 2]); at = (at - 1) / 2) heap[at] = heap[(at - 1) / 2];
    heap[at] = one;
}

static struct packet pop(void) {
    struct packet first = heap[0], last = heap[--held];
    size_t at = 0, child;
    for (; (child = 2 * at + 1) < held; at = child) {
        if (child + 1 < held && before(heap[child + 1], heap[child])) child++;
        if (!before(heap[child], last)) break;
        heap[at] = heap[child];
    }
    heap[at] = last;
    return first;
}

static uint64_t state;
static double chance(void) { /* xorshift64*, 0 <= chance < 1 */
    state ^= state >> 12, state ^= state << 25, state ^= state >> 27;
    return (double)((state * 2685821657736338717ULL) >> 11) / 9007199254740992.0;
}

static int64_t now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec * 1000000000LL + at.tv_nsec;
}

static volatile sig_atomic_t stopped;
static void stop(int number) { (void)number, stopped = 1; }

static uint64_t passed, lost, full, vanished, duplicated, overtook;

static void take(const unsigned char *bytes, int length) {
    static int64_t busy[2], latest[2];
    static uint64_t number;
    int64_t at = now(), due = at;
    int way = bytes[18] & 1, udp = bytes[9] == 17;
    /* Always as many throws for a packet, so that one knob does not change another's dice. */
    double dropped = chance() * 100, twice = chance() * 100, overtaking = chance() * 100;
    double shift = (2 * chance() - 1) * knob[JITTER];
    if (knob[LONGEST] && udp && length > knob[LONGEST]) {
        vanished++;
        return;
    }
    if (dropped < knob[LOSS]) {
        lost++;
        return;
    }
    if (knob[RATE]) {
        int64_t begins = busy[way] > at ? busy[way] : at;
        if (begins - at > knob[QUEUE] * 1e6) {
            full++;
            return;
        }
        due = busy[way] = begins + (int64_t)(length * 1000 / knob[RATE]);
    }
    if (overtaking < knob[REORDER]) {
        overtook++;
    } else {
        double later = knob[DELAY] + shift;
        due += later > 0 ? (int64_t)(later * 1e6) : 0;
        due = latest[way] = due > latest[way] ? due : latest[way];
    }
    int copies = 1 + (twice < knob[DUPLICATE]);
    duplicated += copies - 1;
    while (copies--) {
        unsigned char *kept = malloc(length);
        if (!kept) exit(3);
        memcpy(kept, bytes, length);
        push((struct packet){due, number++, length, kept});
    }
}

int main(int count, char **words) {
    if (count < 2) return 2;
    for (int i = 2; i < count; i++) {
        char *value = strchr(words[i], '=');
        int which = 0;
        if (value) *value++ = 0;
        while (which < KNOBS && strcmp(names[which], words[i])) which++;
        if (!value || which == KNOBS) return 2;
        knob[which] = atof(value);
    }
    state = 0x9E3779B97F4A7C15ULL * ((uint64_t)knob[SEED] + 1);
    signal(SIGTERM, stop);
    signal(SIGINT, stop);
    struct ifreq wanted = {.ifr_flags = IFF_TUN | IFF_NO_PI};
    strncpy(wanted.ifr_name, words[1], IFNAMSIZ - 1);
    int tun = open("/dev/net/tun", O_RDWR | O_NONBLOCK);
    if (tun < 0 || ioctl(tun, TUNSETIFF, &wanted) < 0) {
        perror(words[1]);
        return 1;
    }
    puts("ready");
    fflush(stdout);
    static unsigned char bytes[65536];
    while (!stopped) {
        struct timespec wait = {1, 0};
        if (held) {
            int64_t left = heap[0].due - now();
            left = left < 0 ? 0 : left;
            wait = (struct timespec){left / 1000000000, left % 1000000000};
        }
        struct pollfd readable = {tun, POLLIN, 0};
        ppoll(&readable, 1, &wait, NULL);
        for (int i = 0, length; i < 64 && (length = read(tun, bytes, sizeof bytes)) > 0; i++)
            if (length >= 20 && bytes[0] >> 4 == 4) take(bytes, length);
        for (int64_t at = now(); held && heap[0].due <= at;) {
            struct packet one = pop();
            passed += write(tun, one.bytes, one.length) == one.length;
            free(one.bytes);
        }
    }
    printf("{\"passed\": %lu, \"lost\": %lu, \"full\": %lu, \"vanished\": %lu, "
           "\"duplicated\": %lu, \"overtook\": %lu}\n",
           passed, lost, full, vanished, duplicated, overtook);
    return 0;
}
