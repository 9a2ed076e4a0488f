/* A stand-in for libnvidia-ml.so.1 whose GPUs are read while they work. The file that FAKE_NVML
   names holds lines of "KEY NUMBER", read at each call:

     INIT            status of init                   N             number of GPUs (default 2)
     LOST<i>         status of GPU i's handle         MIG<i>        its MIG instances, if it has that mode
     UTIL<i>         status of its utilization        BUSY<i>       its utilization in percent
     MEMORY<i>       status of its memory             USED<i>       GiB of 8 that are used (default 3)
     TEMP<i>         status of its temperature        CELSIUS<i>    its temperature (default 66)
     POWER<i>        status of its power              MILLIWATTS<i> its power (default 100500)
     HANG<i>         seconds its utilization takes    CRASH<i>      1: that call crashes
     HANGINIT        seconds that init takes          NOISE         1: the library prints lines
*/
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int of(const char *key, long gpu, int otherwise) {
    char wanted[64], name[64];
    int number;
    FILE *file = fopen(getenv("FAKE_NVML"), "r");
    if (!file) return otherwise;
    snprintf(wanted, sizeof wanted, gpu < 0 ? "%s" : "%s%ld", key, gpu);
    while (fscanf(file, "%63s %d", name, &number) == 2)
        if (!strcmp(name, wanted)) { fclose(file); return number; }
    fclose(file);
    return otherwise;
}

/* A GPU's handle is index + 1; that of an instance 1000 * (index + 1) + place. */
static long gpu_of(void *handle) { long h = (long)handle; return (h >= 1000 ? h / 1000 : h) - 1; }
static int is_instance(void *handle) { return (long)handle >= 1000; }

int nvmlInitWithFlags(unsigned flags) {
    sleep(of("HANGINIT", -1, 0));
    return of("INIT", -1, 0);
}
int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
int nvmlShutdown(void) { return 0; }
int nvmlDeviceGetCount_v2(unsigned *count) {
    if (of("NOISE", -1, 0)) { printf("a library may say anything\n{\"hello\": 1}\n"); fflush(stdout); }
    *count = of("N", -1, 2);
    return 0;
}
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) {
    *handle = (void *)(long)(index + 1);
    return of("LOST", index, 0);
}
int nvmlDeviceGetUUID(void *handle, char *text, unsigned size) {
    if (is_instance(handle)) snprintf(text, size, "MIG-%ld-%ld", gpu_of(handle), (long)handle % 1000);
    else snprintf(text, size, "GPU-%ld", gpu_of(handle));
    return 0;
}
int nvmlDeviceGetName(void *handle, char *text, unsigned size) {
    snprintf(text, size, is_instance(handle) ? "Fake GPU MIG 1g.5gb" : "Fake GPU");
    return 0;
}
int nvmlDeviceGetUtilizationRates(void *handle, unsigned *rates) {
    long gpu = gpu_of(handle);
    sleep(of("HANG", gpu, 0));
    if (of("CRASH", gpu, 0)) raise(SIGSEGV);
    rates[0] = of("BUSY", gpu, 0);
    rates[1] = 0;
    return is_instance(handle) ? 3 : of("UTIL", gpu, 0);
}
int nvmlDeviceGetMemoryInfo(void *handle, unsigned long long *memory) {
    unsigned long long used = of("USED", gpu_of(handle), 3);
    memory[0] = (is_instance(handle) ? 4ULL : 8ULL) << 30;
    memory[2] = used << 30;
    memory[1] = memory[0] - memory[2];
    return of("MEMORY", gpu_of(handle), 0);
}
int nvmlDeviceGetTemperature(void *handle, int sensor, unsigned *celsius) {
    *celsius = of("CELSIUS", gpu_of(handle), 66);
    return of("TEMP", gpu_of(handle), 0);
}
int nvmlDeviceGetPowerUsage(void *handle, unsigned *milliwatts) {
    *milliwatts = of("MILLIWATTS", gpu_of(handle), 100500);
    return of("POWER", gpu_of(handle), 0);
}
int nvmlDeviceGetMigMode(void *handle, unsigned *current, unsigned *pending) {
    int instances = of("MIG", gpu_of(handle), -1);
    *current = *pending = instances >= 0;
    return instances >= 0 ? 0 : 3;
}
int nvmlDeviceGetMaxMigDeviceCount(void *handle, unsigned *count) { *count = 7; return 0; }
int nvmlDeviceGetMigDeviceHandleByIndex(void *handle, unsigned place, void **instance) {
    if ((int)place >= of("MIG", gpu_of(handle), -1)) return 6;
    *instance = (void *)(1000 * (long)handle + place);
    return 0;
}
