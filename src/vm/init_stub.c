/* Until src/machine/ is there. */
#include "machine/machine_init.h"

const unsigned char machine_init[] = "#!/stub";
const size_t machine_init_size = 7;
